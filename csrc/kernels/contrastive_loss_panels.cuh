// Contrastive loss, backward pass where the width has several slices: 4 products of matrices at any
// width, where recomputing the logits for every slice would need 2 (slices + 1).
//
// The weights of a panel, some rows and columns of x y^T, are computed once and kept in the
// workspace; every slice of the sums reads them. Panels follow one another on the stream, two
// launches each. With all columns in a panel its sums are complete; otherwise they are carried to
// the next panel of the same rows, and added in the order of the panels.
//
// contrastive_loss_weights_kernel
//   block          256 threads, 8 warps; 128 rows, 16 for each warp, in bfloat16 64
//   grid           row tiles x splits of the columns
//   tile           LogitsTile, in bfloat16 WideTile
//   stages         2, as in the forward pass; so is the shared memory
//   registers      at most 128, in bfloat16 255
//   blocks per SM  2, in bfloat16 1; float32 on sm_80: 1
//
// contrastive_loss_weighted_sums_kernel
//   block          256 threads, 8 warps; 128 rows, 16 for each warp
//   grid           row tiles x splits of the columns x slices of the width
//   stages         2: tiles of columns and of weights are used while cp.async loads the next
//   registers      at most 128
//   shared memory  kPanelSharedBytes: 67,584 bytes
//   blocks per SM  2
#pragma once
#include <type_traits>

#include "kernels/contrastive_loss_backward.cuh"

namespace usvs::cuda {

template <typename Input>
using WeightsTile = std::conditional_t<sizeof(Input) == 2, WideTile, LogitsTile<Input>>;
// A tile of weights has as many columns as several tiles of the sums.
template <typename Input>
constexpr int kSumsTiles = WeightsTile<Input>::columns / SumsTile::columns;
// Two tiles of columns and two of weights, later overwritten by the block's sums.
template <typename Input>
constexpr int kColumnTilesBytes = 2 * SumsTile::columns * kPitch<Input> * sizeof(Input);
constexpr int kWeightTilesBytes = 2 * SumsTile::rows * SumsTile::columns * sizeof(float);
template <typename Input>
constexpr int kPanelSharedBytes =
    kColumnTilesBytes<Input> + kWeightTilesBytes > SumsTile::sums_bytes
        ? kColumnTilesBytes<Input> + kWeightTilesBytes
        : SumsTile::sums_bytes;

template <typename Input>
constexpr int kWeightsSharedBytes = LogitsTile<Input>::template tiles_bytes<Input>;
template <>
constexpr int kWeightsSharedBytes<BFloat16> = WideTile::shared_bytes;

struct WeightPanel {
  // [fragments of 8 columns, row tiles, kWarps, 32 lanes]: 16 x 8 weights as a warp has them in its
  // registers.
  float4* weights;
  float* carried_sums;     // [rows of the panel, slices, slice width]; null if it has all columns
  bool is_first, is_last;  // of the panels of its rows

  // Index of a lane's weights of rows 16 `warp` ... of a row tile; `row_tile` and `fragment` count
  // from the panel's first.
  __device__ __forceinline__ int index(int row_tile, int row_tiles, int fragment, int warp) const {
    return ((fragment * row_tiles + row_tile) * kWarps + warp) * 32 + threadIdx.x % 32;
  }
};

template <bool kRowsAreAnchors, typename Input>
__global__ void __launch_bounds__(kThreads, sizeof(Input) == 2 ? 1 : 2)
    contrastive_loss_weights_kernel(ContrastiveBackwardParams<Input> params, EmbeddingLayout layout,
                                    SplitPlan plan, WeightPanel panel) {
  using Shape = WeightsTile<Input>;
  USVS_DYNAMIC_SHARED(Input, shared, 0, kWeightsSharedBytes<Input> / sizeof(Input));
  const BlockTile<Shape> block_tile{plan.first_row_tile + static_cast<int>(blockIdx.x)};
  const Operands<kRowsAreAnchors, Input> operands(params);
  const BackwardAnchors<Input> anchors{params};
  const float scale = logit_scale(params);
  // Writes the weights of rows 16 `block` ... of this warp.
  auto store = [&](const float (&tile)[Shape::fragments][4], int column, int block) {
    const int warp = row_warp<Shape>() * (Shape::warp_rows / 16) + block;
    const int first = column / 8 - plan.first_column_tile * (Shape::columns / 8);
#pragma unroll
    for (int fragment = 0; fragment < Shape::fragments; ++fragment) {
      const float (&w)[4] = tile[fragment];
      panel.weights[panel.index(blockIdx.x, plan.row_tiles, first + fragment, warp)] =
          make_float4(w[0], w[1], w[2], w[3]);
    }
  };
  if constexpr (sizeof(Input) == 2) {
    stream_wide_tiles(operands, layout, plan, block_tile, shared, anchors,
                      [&](int column, int block, float (&tile)[Shape::fragments][4],
                          const Input* x_rows, const Input* y_rows, bool has_self) {
                        similarities_to_weights<kRowsAreAnchors, kStageWidth>(
                            tile, x_rows, y_rows, scale, block_tile.warp_row() + 16 * block, column,
                            operands.columns, has_self);
                        store(tile, column, block);
                      });
  } else {
    stream_tiles<Shape, false, false>(operands, layout, plan, block_tile, shared, anchors,
                                      [&](int column, float (&tile)[Shape::fragments][4],
                                          const Input* x_rows, const Input* y_rows, bool has_self) {
                                        similarities_to_weights<kRowsAreAnchors>(
                                            tile, x_rows, y_rows, scale, block_tile.warp_row(),
                                            column, operands.columns, has_self);
                                        store(tile, column, 0);
                                      });
  }
}

// Adds the sums of earlier panels of the same rows to those in shared memory. Returns whether they
// are complete; otherwise they are kept for the next panel.
__device__ __forceinline__ bool carry_sums(const WeightPanel& panel, const EmbeddingLayout& layout,
                                           const BlockTile<SumsTile>& block_tile,
                                           const SplitPlan& plan, float* sums) {
  if (panel.is_first && panel.is_last) return true;
  const int64_t floats = int64_t{SumsTile::rows} * layout.slice_width;
  float* const carried = &panel.carried_sums[block_tile.sums_index(plan) * floats];
  for (int i = threadIdx.x / 32; i < SumsTile::rows; i += kWarps) {
    for (int k = threadIdx.x % 32; k < layout.slice_width; k += 32) {
      float sum = sums[i * kSumsPitch + k];
      if (!panel.is_first) sum += carried[i * layout.slice_width + k];
      if (panel.is_last) {
        sums[i * kSumsPitch + k] = sum;
      } else {
        carried[i * layout.slice_width + k] = sum;
      }
    }
  }
  // No barrier: the threads that added these sums write the gradients.
  return panel.is_last;
}

template <bool kRowsAreAnchors, typename Input>
__global__ void __launch_bounds__(kThreads, 2)
    contrastive_loss_weighted_sums_kernel(ContrastiveBackwardParams<Input> params,
                                          EmbeddingLayout layout, SplitPlan plan,
                                          WeightPanel panel) {
  USVS_DYNAMIC_SHARED(Input, shared, 0, kPanelSharedBytes<Input> / sizeof(Input));
  const BlockTile<SumsTile> block_tile{plan.first_row_tile + static_cast<int>(blockIdx.x)};
  const Operands<kRowsAreAnchors, Input> operands(params);
  const int thread = threadIdx.x, warp = thread / 32;
  const bool has_rows = block_tile.warp_row() < operands.rows;
  const int begin = block_tile.sums_slice() * layout.slice_width;
  float4* const weight_tiles = reinterpret_cast<float4*>(
      &shared[kColumnTilesBytes<Input> / static_cast<int>(sizeof(Input))]);
  const BackwardAnchors<Input> anchors{params};
  auto load = [&](int tile, int buffer) {
    Input* const columns = &shared[buffer * SumsTile::columns * kPitch<Input>];
    load_tile<SumsTile::columns>(columns, operands.y, tile * SumsTile::columns, operands.columns,
                                 begin, layout);
    if (!kRowsAreAnchors && thread < SumsTile::columns) {
      anchors.copy(tile * SumsTile::columns + thread,
                   row_metadata(&columns[thread * kPitch<Input>]));
    }
    if (has_rows) {
      const int first = (tile - plan.first_column_tile) * SumsTile::fragments;
#pragma unroll
      for (int fragment = 0; fragment < SumsTile::fragments; ++fragment) {
        const int from = panel.index(blockIdx.x, plan.row_tiles, first + fragment, warp);
        cp_async_16(&weight_tiles[(buffer * SumsTile::fragments + fragment) * kThreads + thread],
                    &panel.weights[from]);
      }
    }
    cp_async_commit();
  };
  float sums[kSliceWidth / 8][4] = {};
  int tile = block_tile.first_column_tile(plan);
  const int end = block_tile.end_column_tile(plan);
  if (tile < end) load(tile, 0);
  for (int buffer = 0; tile < end; buffer ^= 1, ++tile) {
    cp_async_wait<0>();
    Input* const columns = &shared[buffer * SumsTile::columns * kPitch<Input>];
    if (kRowsAreAnchors) {
      __syncthreads();
    } else {
      int special = 0;  // whether the anchor that this thread copied has no weight
      if (thread < SumsTile::columns) {
        AnchorMetadata& metadata = row_metadata(&columns[thread * kPitch<Input>]);
        anchors.complete(tile * SumsTile::columns + thread, metadata);
        special = metadata.logsumexp == INFINITY;
      }
      if (__syncthreads_or(special)) clear_rows_without_weight<SumsTile::columns>(columns, layout);
    }
    if (tile + 1 < end) load(tile + 1, buffer ^ 1);
    if (has_rows) {
      float weights[SumsTile::fragments][4];
#pragma unroll
      for (int fragment = 0; fragment < SumsTile::fragments; ++fragment) {
        const float4 w =
            weight_tiles[(buffer * SumsTile::fragments + fragment) * kThreads + thread];
        weights[fragment][0] = w.x;
        weights[fragment][1] = w.y;
        weights[fragment][2] = w.z;
        weights[fragment][3] = w.w;
      }
      add_weighted(weights, columns, layout, sums);
    }
  }
  float* const reduced = reinterpret_cast<float*>(shared);
  const int rows = block_tile.owned_rows(operands.rows);
  if (!reduce_splits(sums, layout, plan, block_tile, rows, reduced)) return;
  if (!carry_sums(panel, layout, block_tile, plan, reduced)) return;
  if (kRowsAreAnchors) {
    write_anchor_gradients(params, layout, block_tile, reduced);
  } else {
    write_candidate_gradients(params, layout, block_tile, reduced);
  }
}

}  // namespace usvs::cuda
