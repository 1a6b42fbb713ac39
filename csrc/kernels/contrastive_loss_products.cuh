// Matrix products of small tiles on tensor cores, with float32 accuracy.
//
// A float x is split into high, x rounded to 11 significant bits (tf32), and low = x - high, of
// which a tensor core uses 11 bits. Then x y = high high + high low + low high up to a relative
// error of 2^-22. Tensor cores round their sums towards zero (Fasi et al., 2021,
// doi:10.7717/peerj-cs.330), an error that grows with the length of a sum. So a tensor core adds
// few terms at a time, and ordinary instructions, which round to nearest, add those sums (Ootomo
// and Yokota, 2022, doi:10.1177/10943420221090256).
//
// bfloat16 embeddings are multiplied as they are. Weights are split into two bfloat16 numbers:
// rounded to one, a weight near 1 would lose the small difference between the gradients of the
// positive and the candidates.
//
// Fragments: with g = lane / 4 and t = lane % 4, a lane holds elements [g][2t], [g][2t + 1], [g +
// 8][2t] and [g + 8][2t + 1] of every 16 x 8 fragment of a tile.
#pragma once
#include "contrastive_loss.h"
#include "kernels/contrastive_loss_plan.h"
#include "kernels/simt.h"

namespace usvs::cuda {

using namespace simt;

template <typename Input>
struct TensorCore;

template <>
struct TensorCore<float> {
  struct Left {
    uint32_t high[4], low[4];
  };
  struct Right {
    uint32_t high[2], low[2];
  };

  // A NaN stays a NaN in `low`. A tensor core ignores the lower 13 bits of its inputs.
  static __device__ __forceinline__ void split(uint32_t x, uint32_t& high, uint32_t& low) {
    high = (x + 0x1000) & 0xffffe000;
    low = __float_as_uint(__uint_as_float(x) - __uint_as_float(high));
  }
  static __device__ __forceinline__ Left left(const uint32_t (&words)[4]) {
    Left result;
#pragma unroll
    for (int i = 0; i < 4; ++i) split(words[i], result.high[i], result.low[i]);
    return result;
  }
  static __device__ __forceinline__ Right right(uint32_t first, uint32_t second) {
    Right result;
    split(first, result.high[0], result.low[0]);
    split(second, result.high[1], result.low[1]);
    return result;
  }
  // Alternates between two sums: a tensor core cannot add to a sum before its previous addition is
  // complete.
  static __device__ __forceinline__ void multiply(float (&sums)[2][4], const Left& a,
                                                  const Right& b0, const Right& b1) {
    mma_m16n8k8_tf32(sums[0], a.low, b0.high);
    mma_m16n8k8_tf32(sums[1], a.low, b1.high);
    mma_m16n8k8_tf32(sums[0], a.high, b0.low);
    mma_m16n8k8_tf32(sums[1], a.high, b1.low);
    mma_m16n8k8_tf32(sums[0], a.high, b0.high);
    mma_m16n8k8_tf32(sums[1], a.high, b1.high);
  }
};

template <>
struct TensorCore<BFloat16> {
  struct Left {
    uint32_t bits[4];
  };
  struct Right {
    uint32_t bits[2];
  };

  static __device__ __forceinline__ Left left(const uint32_t (&words)[4]) {
    return {{words[0], words[1], words[2], words[3]}};
  }
  static __device__ __forceinline__ Right right(uint32_t first, uint32_t second) {
    return {{first, second}};
  }
  static __device__ __forceinline__ void multiply(float (&sums)[2][4], const Left& a,
                                                  const Right& b0, const Right& b1) {
    mma_m16n8k16_bf16(sums[0], a.bits, b0.bits);
    mma_m16n8k16_bf16(sums[1], a.bits, b1.bits);
  }
};

__device__ __forceinline__ void add(const float (&sum)[4], float (&sums)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) sums[i] += sum[i];
}

// tile += x y^T over one slice of the width: 16 rows of x, all rows of the y tile.
template <typename Input>
__device__ __forceinline__ void add_product(const Input* x, const Input* y,
                                            const EmbeddingLayout& layout,
                                            float (&tile)[kFragments][4]) {
  using Core = TensorCore<Input>;
  constexpr int kHalf = 16 / sizeof(Input), kStep = 2 * kHalf, kSteps = sizeof(Input) == 4 ? 1 : 2;
  const int lane = threadIdx.x % 32;
  const Input* const x_row = &x[lane % 16 * kPitch<Input> + lane / 16 * kHalf];
  const Input* const y_row = &y[(lane / 16 * 8 + lane % 8) * kPitch<Input> + lane / 8 % 2 * kHalf];
#pragma unroll 1  // no registers left for unrolling
  for (int k = 0; k < layout.slice_width; k += kSteps * kStep) {
    typename Core::Left a[kSteps];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t words[4];
      ldmatrix_x4(words, &x_row[k + step * kStep]);
      a[step] = Core::left(words);
    }
#pragma unroll
    for (int fragment = 0; fragment < kFragments; fragment += 2) {
      float sums[2][4] = {};
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        uint32_t words[4];
        ldmatrix_x4(words, &y_row[8 * fragment * kPitch<Input> + k + step * kStep]);
        Core::multiply(sums, a[step], Core::right(words[0], words[1]),
                       Core::right(words[2], words[3]));
      }
      add(sums[0], tile[fragment]);
      add(sums[1], tile[fragment + 1]);
    }
  }
}

// sums += weights y over one slice: weights [16, kTileColumns] in the registers that add_product
// left them in. Taking each eight columns of the weights in the order 0 2 4 6 1 3 5 7 gives every
// lane the values that it already holds.
__device__ __forceinline__ void add_weighted(const float (&weights)[kFragments][4], const float* y,
                                             const EmbeddingLayout& layout,
                                             float (&sums)[kSliceWidth / 8][4]) {
  using Core = TensorCore<float>;
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int fragment = 0; fragment < kFragments; ++fragment) {
    const float (&w)[4] = weights[fragment];
    const Core::Left a = Core::left({__float_as_uint(w[0]), __float_as_uint(w[2]),
                                     __float_as_uint(w[1]), __float_as_uint(w[3])});
    const float* const even = &y[(8 * fragment + 2 * t) * kPitch<float> + g];
    const float* const odd = &y[(8 * fragment + 2 * t + 1) * kPitch<float> + g];
#pragma unroll
    for (int k = 0; k < kSliceWidth; k += 16) {
      if (k >= layout.slice_width) break;
      float two[2][4] = {};
      Core::multiply(two, a, Core::right(__float_as_uint(even[k]), __float_as_uint(odd[k])),
                     Core::right(__float_as_uint(even[k + 8]), __float_as_uint(odd[k + 8])));
      add(two[0], sums[k / 8]);
      add(two[1], sums[k / 8 + 1]);
    }
  }
}

__device__ __forceinline__ void add_weighted(const float (&weights)[kFragments][4],
                                             const BFloat16* y, const EmbeddingLayout& layout,
                                             float (&sums)[kSliceWidth / 8][4]) {
  using Core = TensorCore<BFloat16>;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int fragment = 0; fragment < kFragments; fragment += 2) {
    Core::Left high, low;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float first = weights[fragment + i / 2][i % 2 * 2];
      const float second = weights[fragment + i / 2][i % 2 * 2 + 1];
      high.bits[i] = pack_bf16(first, second);
      low.bits[i] = pack_bf16(first - __uint_as_float(high.bits[i] << 16),
                              second - __uint_as_float(high.bits[i] & 0xffff0000));
    }
    const BFloat16* const y_row = &y[(8 * fragment + lane % 16) * kPitch<BFloat16> + lane / 16 * 8];
#pragma unroll
    for (int k = 0; k < kSliceWidth; k += 16) {
      if (k >= layout.slice_width) break;
      uint32_t words[4];
      ldmatrix_x4_transposed(words, &y_row[k]);
      const Core::Right b0 = Core::right(words[0], words[1]), b1 = Core::right(words[2], words[3]);
      float two[2][4] = {};
      Core::multiply(two, low, b0, b1);
      Core::multiply(two, high, b0, b1);
      add(two[0], sums[k / 8]);
      add(two[1], sums[k / 8 + 1]);
    }
  }
}

}  // namespace usvs::cuda
