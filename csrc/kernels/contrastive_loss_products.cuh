// Matrix products of small tiles on tensor cores, with float32 accuracy.
//
// A float x is split into high, x rounded to 11 significant bits (tf32), and low = x - high, of
// which a tensor core uses 11 bits. Then x y = high high + high low + low high up to a relative
// error of 2^-22. Tensor cores round their sums towards zero (Fasi et al., 2021,
// doi:10.7717/peerj-cs.330), an error that grows with the length of a sum. So a tensor core adds
// few terms at a time, and ordinary instructions, which round to nearest, add those sums (Ootomo
// and Yokota, 2022, doi:10.1177/10943420221090256).
//
// bfloat16 embeddings are multiplied as they are, and the tensor core adds up to kSliceWidth terms
// of a logit: at most eight roundings towards zero of 2^-23 each. Weights are split into two
// bfloat16 numbers: rounded to one, a weight near 1 would lose the small difference between the
// gradients of the positive and the candidates. The low parts of a tile are multiplied first, while
// the sum is small.
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
  static __device__ __forceinline__ void multiply(float (&sums0)[4], float (&sums1)[4],
                                                  const Left& a, const Right& b0, const Right& b1) {
    mma_m16n8k8_tf32(sums0, a.low, b0.high);
    mma_m16n8k8_tf32(sums1, a.low, b1.high);
    mma_m16n8k8_tf32(sums0, a.high, b0.low);
    mma_m16n8k8_tf32(sums1, a.high, b1.low);
    mma_m16n8k8_tf32(sums0, a.high, b0.high);
    mma_m16n8k8_tf32(sums1, a.high, b1.high);
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
  static __device__ __forceinline__ void multiply(float (&sums0)[4], float (&sums1)[4],
                                                  const Left& a, const Right& b0, const Right& b1) {
    mma_m16n8k16_bf16(sums0, a.bits, b0.bits);
    mma_m16n8k16_bf16(sums1, a.bits, b1.bits);
  }
};

__device__ __forceinline__ void add(const float (&sum)[4], float (&sums)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) sums[i] += sum[i];
}

// The 16 rows of a warp as left operands of tensor cores: read from shared memory where they are
// used, or kept in registers over all tiles.
template <typename Input, bool kKeepsRows>
struct LeftRows {
  static constexpr int kHalf = 16 / sizeof(Input);
  static constexpr int kSteps = kKeepsRows ? kSliceWidth / (2 * kHalf) : 1;
  const Input* row;  // of this lane
  uint32_t words[kSteps][4];

  __device__ __forceinline__ explicit LeftRows(const Input* x)
      : row(&x[threadIdx.x % 16 * kPitch<Input> + threadIdx.x % 32 / 16 * kHalf]) {}
  // The rows must be in shared memory. What is behind the slice is not used.
  __device__ __forceinline__ void load(const EmbeddingLayout& layout) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (2 * kHalf * step >= layout.slice_width) break;
      ldmatrix_x4(words[step], &row[2 * kHalf * step]);
    }
  }
  __device__ __forceinline__ void read(int k, uint32_t (&result)[4]) const {
    if constexpr (kKeepsRows) {
#pragma unroll
      for (int i = 0; i < 4; ++i) result[i] = words[k / (2 * kHalf)][i];
    } else {
      ldmatrix_x4(result, &row[k]);
    }
  }
};

// tile += x y^T over one slice of the width: 16 rows of x, 8 kFragments rows of y.
template <int kFragments>
__device__ __forceinline__ void add_product(const LeftRows<float, false>& x, const float* y,
                                            const EmbeddingLayout& layout,
                                            float (&tile)[kFragments][4]) {
  using Core = TensorCore<float>;
  const int lane = threadIdx.x % 32;
  const float* const y_row = &y[(lane / 16 * 8 + lane % 8) * kPitch<float> + lane / 8 % 2 * 4];
#pragma unroll 1  // no registers left for unrolling
  for (int k = 0; k < layout.slice_width; k += 8) {
    uint32_t words[4];
    x.read(k, words);
    const Core::Left a = Core::left(words);
#pragma unroll
    for (int fragment = 0; fragment < kFragments; fragment += 2) {
      float sums[2][4] = {};
      ldmatrix_x4(words, &y_row[8 * fragment * kPitch<float> + k]);
      Core::multiply(sums[0], sums[1], a, Core::right(words[0], words[1]),
                     Core::right(words[2], words[3]));
      add(sums[0], tile[fragment]);
      add(sums[1], tile[fragment + 1]);
    }
  }
}

template <int kFragments, bool kKeepsRows>
__device__ __forceinline__ void add_product(const LeftRows<BFloat16, kKeepsRows>& x,
                                            const BFloat16* y, const EmbeddingLayout& layout,
                                            float (&tile)[kFragments][4]) {
  using Core = TensorCore<BFloat16>;
  const int lane = threadIdx.x % 32;
  const BFloat16* const y_row =
      &y[(lane / 16 * 8 + lane % 8) * kPitch<BFloat16> + lane / 8 % 2 * 8];
#pragma unroll
  for (int k = 0; k < kSliceWidth; k += 16) {
    if (k > 0 && k % 32 == 0 && k >= layout.slice_width) break;
    uint32_t words[4];
    x.read(k, words);
    const Core::Left a = Core::left(words);
#pragma unroll
    for (int fragment = 0; fragment < kFragments; fragment += 2) {
      ldmatrix_x4(words, &y_row[8 * fragment * kPitch<BFloat16> + k]);
      Core::multiply(tile[fragment], tile[fragment + 1], a, Core::right(words[0], words[1]),
                     Core::right(words[2], words[3]));
    }
  }
}

// sums += weights y over one slice: weights [16, 8 kFragments] in the registers that add_product
// left them in. Taking each eight columns of the weights in the order 0 2 4 6 1 3 5 7 gives every
// lane the values that it already holds.
template <int kFragments>
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
      Core::multiply(two[0], two[1], a,
                     Core::right(__float_as_uint(even[k]), __float_as_uint(odd[k])),
                     Core::right(__float_as_uint(even[k + 8]), __float_as_uint(odd[k + 8])));
      add(two[0], sums[k / 8]);
      add(two[1], sums[k / 8 + 1]);
    }
  }
}

template <int kFragments>
__device__ __forceinline__ void add_weighted(const float (&weights)[kFragments][4],
                                             const BFloat16* y, const EmbeddingLayout& layout,
                                             float (&sums)[kSliceWidth / 8][4]) {
  using Core = TensorCore<BFloat16>;
  constexpr int kSteps = kFragments / 2;  // of 16 rows of y
  const int lane = threadIdx.x % 32;
  Core::Left high[kSteps], low[kSteps];
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float first = weights[2 * step + i / 2][i % 2 * 2];
      const float second = weights[2 * step + i / 2][i % 2 * 2 + 1];
      const uint32_t bits = pack_bf16(first, second);
      high[step].bits[i] = bits;
      low[step].bits[i] = pack_bf16(first - __uint_as_float(bits << 16),
                                    second - __uint_as_float(bits & 0xffff0000));
    }
  }
  const BFloat16* const y_row = &y[lane % 16 * kPitch<BFloat16> + lane / 16 * 8];
#pragma unroll
  for (int k = 0; k < kSliceWidth; k += 32) {  // a slice has a multiple of 32 columns
    if (k > 0 && k >= layout.slice_width) break;
    Core::Right b[kSteps][4];
    float four[4][4] = {};
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        uint32_t words[4];
        ldmatrix_x4_transposed(words, &y_row[16 * step * kPitch<BFloat16> + k + 16 * half]);
        b[step][2 * half] = Core::right(words[0], words[1]);
        b[step][2 * half + 1] = Core::right(words[2], words[3]);
      }
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      Core::multiply(four[0], four[1], low[step], b[step][0], b[step][1]);
      Core::multiply(four[2], four[3], low[step], b[step][2], b[step][3]);
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      Core::multiply(four[0], four[1], high[step], b[step][0], b[step][1]);
      Core::multiply(four[2], four[3], high[step], b[step][2], b[step][3]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) add(four[i], sums[k / 8 + i]);
  }
}

}  // namespace usvs::cuda
