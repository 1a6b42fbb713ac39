// The backward pass, one body for both sums over the weights w_ik = losses_grad_i / T softmax_ik:
//
//   anchors own:     sums_i = sum over k of w_ik c_k; then the terms of s_i and s'_i, and theirs
//   candidates own:  sums_k = sum over i of w_ik v_i
//
// Either recomputes the tiles of logits that it needs, so that every sum lies in the registers of
// one block: no atomic addition of floats, and the same bits every time.
#pragma once
#include "kernels/contrastive_loss_forward.cuh"

namespace usvs::cuda {

template <typename Input>
__device__ __forceinline__ Anchor anchor_at(const ContrastiveLossParams<Input>& params,
                                            const Geometry& geometry, int row) {
  // Beyond the end there is no weight: exp(-inf).
  if (row >= params.rows) return {INFINITY, 0, -1};
  return {params.logsumexp[row], geometry.scaled(params.losses_grad[row]),
          static_cast<int>(params.self_index[row])};
}

// Turns a lane's part of a tile of similarities into weights.
template <bool kAnchorsOwn, typename Input>
__device__ __forceinline__ void weigh(float (&tile)[kParts][4], const Input* x_rows,
                                      const Input* y_tile, const Geometry& geometry, int first_row,
                                      int first_column, int columns) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = g + i / 2 * 8, column = 8 * part + 2 * t + i % 2;
      const Input* const anchor_row =
          kAnchorsOwn ? &x_rows[row * kPitch<Input>] : &y_tile[column * kPitch<Input>];
      const Anchor& anchor = anchor_behind(anchor_row);
      const int candidate = kAnchorsOwn ? first_column + column : first_row + row;
      const bool counts =
          candidate != anchor.self && (!kAnchorsOwn || first_column + column < columns);
      float& value = tile[part][i];
      const float softmax = fast_exp(geometry.scaled(value) - anchor.logsumexp);
      value = counts ? softmax * anchor.weight : 0;
    }
  }
}

// Puts the block's sums, summed over all splits, into shared memory; false where another block
// will.
__device__ __forceinline__ bool gather_sums(const float (&sums)[kSliceWidth / 8][4],
                                            const Geometry& geometry, const Cut& cut,
                                            const Share& share, float* shared) {
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
  const int width = geometry.slice_width, pitch = kSumsPitch;
  __syncthreads();  // the tiles have been read; sums take their place
#pragma unroll
  for (int column = 0; column < kSliceWidth; column += 8) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      shared[(row + i / 2 * 8) * pitch + column + lane % 4 * 2 + i % 2] = sums[column / 8][i];
    }
  }
  if (cut.splits > 1) {
    __syncthreads();
    const int64_t floats = int64_t{kTileRows} * width;
    float* const parts = &cut.parts[share.tile(cut) * cut.splits * floats];
    for (int i = threadIdx.x / 32; i < kTileRows; i += kWarps) {
      for (int k = lane; k < width; k += 32) {
        parts[share.split() * floats + i * width + k] = shared[i * pitch + k];
      }
    }
    if (!is_last(&cut.done[share.tile(cut)], cut.splits)) return false;
    for (int i = threadIdx.x / 32; i < kTileRows; i += kWarps) {
      for (int k = lane; k < width; k += 32) {
        float sum = 0;
        for (int split = 0; split < cut.splits; ++split) {
          sum += parts[split * floats + i * width + k];
        }
        shared[i * pitch + k] = sum;
      }
    }
  }
  __syncthreads();
  return true;
}

template <typename Input>
__device__ void write_anchors(const ContrastiveLossParams<Input>& params, const Geometry& geometry,
                              const Share& share, const float* sums) {
  const int begin = share.sums_slice() * geometry.slice_width;
  const int width = min(geometry.slice_width, geometry.width - begin);
  const int rows = owned_rows(params.rows, share);
  for (int i = threadIdx.x / 32; i < rows; i += kWarps) {
    const int row = share.first_row() + i;
    const Margin margin = margin_of(params, row);
    const double weight = params.losses_grad[row] / params.temperature;
    const float pull = static_cast<float>(-weight * (1 + margin.slope));
    const float push = static_cast<float>(weight * margin.slope);
    for (int k = threadIdx.x % 32; k < width; k += 32) {
      const int64_t at = int64_t{row} * geometry.width + begin + k;
      const float v = widened(params.anchors[at]);
      narrow(pull * v, params.positives_grad[at]);
      narrow(push * v, params.hard_negatives_grad[at]);
      const float hard = push * widened(params.hard_negatives[at]);
      narrow(sums[i * kSumsPitch + k] + fmaf(pull, widened(params.positives[at]), hard),
             params.anchors_grad[at]);
    }
  }
}

template <typename Input>
__device__ void write_candidates(const ContrastiveLossParams<Input>& params,
                                 const Geometry& geometry, const Share& share, const float* sums) {
  const int begin = share.sums_slice() * geometry.slice_width;
  const int width = min(geometry.slice_width, geometry.width - begin);
  const int rows = owned_rows(params.columns, share);
  for (int i = threadIdx.x / 32; i < rows; i += kWarps) {
    for (int k = threadIdx.x % 32; k < width; k += 32) {
      narrow(sums[i * kSumsPitch + k],
             params.candidates_grad[int64_t{share.first_row() + i} * geometry.width + begin + k]);
    }
  }
}

template <bool kAnchorsOwn, typename Input>
__device__ __forceinline__ void sum_weighted(const ContrastiveLossParams<Input>& params,
                                             const Geometry& geometry, const Cut& cut, int row_tile,
                                             Input* shared) {
  const Share share{row_tile};
  const Sides<kAnchorsOwn, Input> sides(params);
  float sums[kSliceWidth / 8][4] = {};
  stream_tiles(
      sides, geometry, cut, share, shared,
      [&](int row) { return anchor_at(params, geometry, row); },
      [&](int column, float (&tile)[kParts][4], const Input* x_rows, const Input* y_tile) {
        const int first_row = share.first_row() + threadIdx.x / 32 * 16;
        weigh<kAnchorsOwn>(tile, x_rows, y_tile, geometry, first_row, column, sides.columns);
        add_weighted(tile, y_tile, geometry, sums);
      });
  float* const gathered = reinterpret_cast<float*>(shared);
  if (!gather_sums(sums, geometry, cut, share, gathered)) return;
  if (kAnchorsOwn) {
    write_anchors(params, geometry, share, gathered);
  } else {
    write_candidates(params, geometry, share, gathered);
  }
}

// Row tiles of anchors come first: where candidates are many, theirs is the longest work.
template <typename Input>
__global__ void __launch_bounds__(kThreads, 2)
    contrastive_loss_backward_kernel(ContrastiveLossParams<Input> params, Geometry geometry,
                                     Cut anchors, Cut candidates) {
  USVS_DYNAMIC_SHARED(Input, shared, 0, kSharedBytes<Input> / sizeof(Input));
  const int row_tile = blockIdx.x, split = blockIdx.y;
  if (row_tile < anchors.row_tiles) {
    if (split >= anchors.splits) return;
    sum_weighted<true>(params, geometry, anchors, row_tile, shared);
  } else {
    if (split >= candidates.splits) return;
    sum_weighted<false>(params, geometry, candidates, row_tile - anchors.row_tiles, shared);
  }
}

}  // namespace usvs::cuda
