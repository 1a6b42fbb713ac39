// Contrastive loss, backward pass of a width of one slice (contrastive_loss_panels.cuh: of several)
// and what both have in common. With the weights w_ik = losses_grad_i / T softmax_ik (T enters
// at the end):
//
//   rows are anchors:     gradient of v_i = sum over k of w_ik c_k + the terms of s_i and s'_i
//   rows are candidates:  gradient of c_k = sum over i of w_ik v_i
//
// Each block recomputes the logits that it needs and keeps its sums in registers. No floats are
// added atomically, so the result has the same bits in every run.
//
//   block          256 threads, 8 warps; 128 rows, 16 for each warp; of few anchors 32
//   tile           SumsTile: 128 rows x 32 columns; FewRowsTile: 32 x 64, in bfloat16 x 128
//   grid           row tiles of anchors, then of candidates, x splits of the columns
//   stages         2: one tile of columns is multiplied while cp.async loads the next
//   tensor cores   logits as in the forward pass; weights, split in two, times y
//   registers      at most 128
//   shared memory  kBackwardBytes: 101,376 bytes (float32), 67,584 bytes (bfloat16); of few anchors
//                  101,376 and 78,336
//   blocks per SM  2; float32 on sm_80: 1
#pragma once
#include "kernels/contrastive_loss_forward.cuh"

namespace usvs::cuda {

// Shared memory of a block, whose rows are anchors or candidates.
template <typename AnchorsTile, typename Input>
constexpr int kBackwardBytes =
    AnchorsTile::template shared_bytes<Input> > SumsTile::shared_bytes<Input>
        ? AnchorsTile::template shared_bytes<Input>
        : SumsTile::shared_bytes<Input>;

// Whether a row has a loss. An anchor with an index that does not exist, or whose logits are not
// finite, has none: its own gradients are NaN, and it has no weight in those of the candidates.
__device__ __forceinline__ bool is_loss(int64_t self, float logsumexp, int64_t columns) {
  return self >= -1 && self < columns && fabsf(logsumexp) <= kLargestFloat;
}
template <typename Input>
__device__ __forceinline__ bool has_loss(const ContrastiveBackwardParams<Input>& params, int row) {
  return is_loss(params.self_index[row], params.logsumexp[row], params.columns);
}

// The metadata of anchors as the backward pass needs them.
template <typename Input>
struct BackwardAnchors {
  const ContrastiveBackwardParams<Input>& params;

  __device__ __forceinline__ void copy(int row, AnchorMetadata& to) const {
    const bool inside = row < params.rows;
    cp_async_4(&to.logsumexp, &params.logsumexp[row], inside);
    cp_async_4(&to.weight, &params.losses_grad[row], inside);
    copy_self_index(to, &params.self_index[row], inside);
  }
  // Rows without a loss (see has_loss) and rows behind the last get weight exp(-inf) = 0.
  __device__ __forceinline__ void complete(int row, AnchorMetadata& at) const {
    const int64_t self = int64_t{at.self_high} << 32 | static_cast<uint32_t>(at.self);
    const bool has_weight = row < params.rows && is_loss(self, at.logsumexp, params.columns);
    if (!has_weight) at = {INFINITY, 0, -1, 0};
  }
};

// Turns a lane's similarities into weights times T.
template <bool kRowsAreAnchors, int kWidth = kSliceWidth, int kFragments, typename Input>
__device__ __forceinline__ void similarities_to_weights(float (&tile)[kFragments][4],
                                                        const Input* x_rows, const Input* y_rows,
                                                        float scale, int first_row,
                                                        int first_column, int columns,
                                                        bool has_self) {
  constexpr int kColumns = 8 * kFragments;
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  auto metadata = [&](int row, int column) -> const AnchorMetadata& {
    return row_metadata<kWidth>(kRowsAreAnchors ? &x_rows[row * kPitch<Input, kWidth>]
                                                : &y_rows[column * kPitch<Input, kWidth>]);
  };
#pragma unroll
  for (int fragment = 0; fragment < kFragments; ++fragment) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const AnchorMetadata& anchor = metadata(g + i / 2 * 8, 8 * fragment + 2 * t + i % 2);
      float& value = tile[fragment][i];
      value = fast_exp(fmaf(value, scale, -anchor.logsumexp)) * anchor.weight;
    }
  }
  // Few tiles have columns behind the last or an anchor that meets itself.
  if (kRowsAreAnchors) {
    has_self = first_column + kColumns > columns ||
               static_cast<unsigned>(metadata(g, 0).self - first_column) < kColumns ||
               static_cast<unsigned>(metadata(g + 8, 0).self - first_column) < kColumns;
  }
  if (!has_self) return;
#pragma unroll
  for (int fragment = 0; fragment < kFragments; ++fragment) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = g + i / 2 * 8, column = 8 * fragment + 2 * t + i % 2;
      const int candidate = kRowsAreAnchors ? first_column + column : first_row + row;
      float& value = tile[fragment][i];
      if (candidate == metadata(row, column).self) value = 0;
      if constexpr (!kRowsAreAnchors && kWidth == kStageWidth) {
        // May be a NaN, where clear_rows_without_weight has made the similarities 0 in other tiles.
        if (metadata(row, column).logsumexp == INFINITY) value = 0;
      }
      if (kRowsAreAnchors && candidate >= columns) value = 0;
    }
  }
}

// Writes the block's sums to shared memory, summed over all splits. Returns false if another block
// does that.
template <typename Shape>
__device__ __forceinline__ bool reduce_splits(const float (&sums)[kSliceWidth / 8][4],
                                              const EmbeddingLayout& layout, const SplitPlan& plan,
                                              const BlockTile<Shape>& block_tile, int rows,
                                              float* shared) {
  const int lane = threadIdx.x % 32, row = row_warp<Shape>() * 16 + lane / 4;
  const int width = layout.slice_width, pitch = kSumsPitch;
#pragma unroll 1
  for (int group = 0; group < Shape::groups; ++group) {
    __syncthreads();  // all warps have read the tiles, which the sums overwrite; earlier groups
    if (column_group<Shape>() != group) continue;
#pragma unroll
    for (int column = 0; column < kSliceWidth; column += 8) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& sum = shared[(row + i / 2 * 8) * pitch + column + lane % 4 * 2 + i % 2];
        sum = group > 0 ? sum + sums[column / 8][i] : sums[column / 8][i];
      }
    }
  }
  __syncthreads();
  if (plan.splits == 1) return true;
  const int column = 4 * lane, tile = block_tile.sums_index(plan);
  const int64_t floats = int64_t{Shape::rows} * width;
  float* const partials = &plan.partial_sums[tile * (plan.splits + plan.joins) * floats];
  unsigned* const finished = &plan.finished[tile * (plan.joins + 1)];
  auto store = [&](int part) {
    for (int i = threadIdx.x / 32; i < rows && column < width; i += kWarps) {
      *reinterpret_cast<float4*>(&partials[part * floats + i * width + column]) =
          *reinterpret_cast<const float4*>(&shared[i * pitch + column]);
    }
  };
  auto add_parts = [&](int first, int count) {
    for (int i = threadIdx.x / 32; i < rows && column < width; i += kWarps) {
      float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 4
      for (int part = first; part < first + count; ++part) {
        const float4 more =
            *reinterpret_cast<const float4*>(&partials[part * floats + i * width + column]);
        sum = make_float4(sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w);
      }
      *reinterpret_cast<float4*>(&shared[i * pitch + column]) = sum;
    }
  };
  const int join = block_tile.split() / kSplitsPerJoin, first = join * kSplitsPerJoin;
  store(block_tile.split());
  const int count = min(kSplitsPerJoin, plan.splits - first);
  if (!is_last_block(&finished[join], count)) return false;
  add_parts(first, count);
  if (plan.joins > 0) {
    store(plan.splits + join);
    if (!is_last_block(&finished[plan.joins], plan.joins)) return false;
    add_parts(plan.splits, plan.joins);
  }
  __syncthreads();
  return true;
}

template <typename Shape, typename Input>
__device__ void write_anchor_gradients(const ContrastiveBackwardParams<Input>& params,
                                       const EmbeddingLayout& layout,
                                       const BlockTile<Shape>& block_tile, const float* sums) {
  const int begin = block_tile.sums_slice() * layout.slice_width;
  const int width = min(layout.slice_width, layout.width - begin);
  const int rows = block_tile.owned_rows(params.rows);
  const double temperature = temperature_of(params);
  const float inverse_temperature = logit_scale(params);
  for (int i = threadIdx.x / 32; i < rows; i += kWarps) {
    const int row = block_tile.first_row() + i;
    const double slope = has_loss(params, row) ? compute_margin(params, row).slope : NAN;
    const double weight = params.losses_grad[row] / temperature;
    const float positive_factor = static_cast<float>(-weight * (1 + slope));
    const float negative_factor = static_cast<float>(weight * slope);
    for (int k = threadIdx.x % 32; k < width; k += 32) {
      const int64_t at = int64_t{row} * layout.width + begin + k;
      float pair = static_cast<float>(0 * slope);  // NaN for an anchor without a loss
      if (params.form != ContrastiveForm::logsumexp) {
        const float v = widen(params.anchors[at]);
        store_rounded(positive_factor * v, params.positives_grad[at]);
        store_rounded(negative_factor * v, params.hard_negatives_grad[at]);
        pair = positive_factor * widen(params.positives[at]);
      }
      if (params.form == ContrastiveForm::eq2) {  // otherwise 0 times a NaN would be a NaN
        pair = fmaf(negative_factor, widen(params.hard_negatives[at]), pair);
      }
      store_rounded(fmaf(sums[i * kSumsPitch + k], inverse_temperature, pair),
                    params.anchors_grad[at]);
    }
  }
}

template <typename Shape, typename Input>
__device__ void write_candidate_gradients(const ContrastiveBackwardParams<Input>& params,
                                          const EmbeddingLayout& layout,
                                          const BlockTile<Shape>& block_tile, const float* sums) {
  const int begin = block_tile.sums_slice() * layout.slice_width;
  const int width = min(layout.slice_width, layout.width - begin);
  const int rows = block_tile.owned_rows(params.columns);
  const float inverse_temperature = logit_scale(params);
  for (int i = threadIdx.x / 32; i < rows; i += kWarps) {
    for (int k = threadIdx.x % 32; k < width; k += 32) {
      store_rounded(
          sums[i * kSumsPitch + k] * inverse_temperature,
          params.candidates_grad[int64_t{block_tile.first_row() + i} * layout.width + begin + k]);
    }
  }
}

template <typename Shape, bool kRowsAreAnchors, typename Input>
__device__ __forceinline__ void accumulate_gradients(const ContrastiveBackwardParams<Input>& params,
                                                     const EmbeddingLayout& layout,
                                                     const SplitPlan& plan, int row_tile,
                                                     Input* shared) {
  const BlockTile<Shape> block_tile{row_tile};
  const Operands<kRowsAreAnchors, Input> operands(params);
  const float scale = logit_scale(params);
  float sums[kSliceWidth / 8][4] = {};
  stream_tiles<Shape, true, false>(
      operands, layout, plan, block_tile, shared, BackwardAnchors<Input>{params},
      [&](int column, float (&tile)[Shape::fragments][4], const Input* x_rows, const Input* y_rows,
          bool has_self) {
        similarities_to_weights<kRowsAreAnchors>(tile, x_rows, y_rows, scale, block_tile.warp_row(),
                                                 column, operands.columns, has_self);
        add_weighted(tile, y_rows, layout, sums);
      });
  float* const reduced = reinterpret_cast<float*>(shared);
  const int rows = block_tile.owned_rows(operands.rows);
  if (!reduce_splits(sums, layout, plan, block_tile, rows, reduced)) return;
  if (kRowsAreAnchors) {
    write_anchor_gradients(params, layout, block_tile, reduced);
  } else {
    write_candidate_gradients(params, layout, block_tile, reduced);
  }
}

// Row tiles of anchors have the lower block indices: with many candidates they take longest.
template <typename AnchorsTile, typename Input>
__global__ void __launch_bounds__(kThreads, 2)
    contrastive_loss_backward_kernel(ContrastiveBackwardParams<Input> params,
                                     EmbeddingLayout layout, SplitPlan anchors,
                                     SplitPlan candidates) {
  USVS_DYNAMIC_SHARED(Input, shared, 0, (kBackwardBytes<AnchorsTile, Input>) / sizeof(Input));
  const int row_tile = blockIdx.x, split = blockIdx.y;
  if (row_tile < anchors.row_tiles) {
    if (split >= anchors.splits) return;
    accumulate_gradients<AnchorsTile, true>(params, layout, anchors, row_tile, shared);
  } else {
    if (split >= candidates.splits) return;
    accumulate_gradients<SumsTile, false>(params, layout, candidates, row_tile - anchors.row_tiles,
                                          shared);
  }
}

}  // namespace usvs::cuda
