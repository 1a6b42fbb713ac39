// The forward pass: logits a tile at a time, of which only the largest and the sum of exponentials
// are kept.
#pragma once
#include "kernels/contrastive_loss_rows.cuh"
#include "kernels/contrastive_loss_tiles.cuh"

namespace usvs::cuda {

constexpr float kLowest = -3.402823466e38f;  // not -inf, which minus itself is NaN

// Logits of a row that have been seen.
struct LogSum {
  float largest = kLowest;
  float sum = 0;   // of exp(logit - largest)
  float lost = 0;  // what rounding took from the sum: a million terms would lose 1e-5 of it

  __device__ __forceinline__ void rescale(float to) {
    const float factor = fast_exp(largest - to);
    largest = to;
    sum *= factor;
    lost *= factor;
  }
  __device__ __forceinline__ void add(float more) {
    const float expected = more - lost, total = sum + expected;
    lost = (total - sum) - expected;
    sum = total;
  }
  __device__ __forceinline__ void join(const LogSum& other) {
    LogSum moved = other;
    const float to = fmaxf(largest, other.largest);
    rescale(to);
    moved.rescale(to);
    add(moved.sum);
  }
};

// Takes one row of a lane's part of a tile, `row` 0 or 1, into its sum.
template <int kParts>
__device__ __forceinline__ void take_logits(const float (&tile)[kParts][4], int row, LogSum& seen) {
  float largest = seen.largest;
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    largest = fmaxf(largest, fmaxf(tile[part][2 * row], tile[part][2 * row + 1]));
  }
  seen.rescale(largest);
  float sum = 0;
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    sum += fast_exp(tile[part][2 * row] - largest) + fast_exp(tile[part][2 * row + 1] - largest);
  }
  seen.add(sum);
}

// Writes loss and logsumexp of the owned rows; `sums` has {largest, sum} of each for every split.
template <typename Input>
__device__ void write_losses(const ContrastiveLossParams<Input>& params, const Share& share,
                             const float2* sums, int splits) {
  const int rows = owned_rows(params.rows, share);
  for (int i = threadIdx.x / 32; i < rows; i += kWarps) {
    const int row = share.first_row() + i;
    float largest = kLowest;
    for (int split = 0; split < splits; ++split) {
      largest = fmaxf(largest, sums[split * kTileRows + i].x);
    }
    double total = 0;
    for (int split = 0; split < splits; ++split) {
      const float2 part = sums[split * kTileRows + i];
      total += part.y * fast_exp(part.x - largest);
    }
    const Margin margin = margin_of(params, row);
    if (threadIdx.x % 32 != 0) continue;
    const int64_t self = params.self_index[row];
    // Held against nothing, or by an index that does not exist: no number is right.
    const bool valid = total != 0 && self >= -1 && self < params.columns;
    const double logsumexp = valid ? largest + log(total) : NAN;
    params.logsumexp[row] = static_cast<float>(logsumexp);
    params.losses[row] = static_cast<float>(logsumexp - margin.positive - margin.gap);
  }
}

// Turns a lane's part of a tile of similarities into logits, -inf where they do not count.
template <typename Input>
__device__ __forceinline__ void mask_logits(float (&tile)[kParts][4], const Input* x_rows,
                                            const Geometry& geometry, int first_column,
                                            int columns) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int self = anchor_behind(&x_rows[(g + 8 * h) * kPitch<Input>]).self;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int column = first_column + 8 * part + 2 * t + j;
        float& value = tile[part][2 * h + j];
        value = column < columns && column != self ? geometry.scaled(value) : -INFINITY;
      }
    }
  }
}

template <typename Input>
__global__ void __launch_bounds__(kThreads, 2)
    contrastive_loss_forward_kernel(ContrastiveLossParams<Input> params, Geometry geometry,
                                    Cut cut) {
  USVS_DYNAMIC_SHARED(Input, shared, 0, kTilesBytes<Input> / sizeof(Input));
  const Share share{static_cast<int>(blockIdx.x)};
  const Sides<true, Input> sides(params);
  LogSum seen[2];
  stream_tiles(
      sides, geometry, cut, share, shared,
      [&](int row) {
        return Anchor{0, 0, row < sides.rows ? static_cast<int>(params.self_index[row]) : -1};
      },
      [&](int column, float (&tile)[kParts][4], const Input* x_rows, const Input*) {
        mask_logits(tile, x_rows, geometry, column, sides.columns);
        take_logits(tile, 0, seen[0]);
        take_logits(tile, 1, seen[1]);
      });
  __syncthreads();  // the tiles have been read; sums take their place
  float2* sums = reinterpret_cast<float2*>(shared);
  const bool is_split = cut.splits > 1;
  if (is_split) {
    sums = reinterpret_cast<float2*>(cut.parts) + int64_t{share.tile(cut)} * cut.splits * kTileRows;
  }
  float2* const own = &sums[share.split() * kTileRows];
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int flipped = 1; flipped < 4; flipped *= 2) {
      LogSum other;
      other.largest = __shfl_xor_sync(0xffffffffu, seen[h].largest, flipped);
      other.sum = __shfl_xor_sync(0xffffffffu, seen[h].sum, flipped);
      seen[h].join(other);
    }
    if (lane % 4 == 0) {
      own[row + 8 * h] = make_float2(seen[h].largest, seen[h].sum);
    }
  }
  if (is_split) {
    if (!is_last(&cut.done[share.tile(cut)], cut.splits)) return;
  } else {
    __syncthreads();
  }
  write_losses(params, share, sums, cut.splits);
}

}  // namespace usvs::cuda
