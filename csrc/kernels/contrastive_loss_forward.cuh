// Contrastive loss, forward pass: computes logits tile by tile and keeps the largest logit and the
// sum of exponentials of each row.
//
//   block          256 threads, 8 warps; 128 anchors, 16 for each warp; of few anchors 32
//   tile           LogitsTile: 128 anchors x 32 candidates, in bfloat16 x 64; FewRowsTile: 32 x 64,
//                  in bfloat16 x 128
//   grid           row tiles x splits of the candidates; the last split writes the losses
//   stages         2: one tile of candidates is multiplied while cp.async loads the next
//   tensor cores   3 mma.m16n8k8 (tf32) per float32 product; mma.m16n8k16 for bfloat16, whose left
//                  operands stay in registers up to d = 128
//   registers      at most 128
//   shared memory  tiles_bytes: 101,376 bytes (float32), 69,632 bytes (bfloat16); of few anchors
//                  84,480 and 78,336
//   blocks per SM  2; float32 on sm_80: 1
//
// Of bfloat16 and a width of several slices: contrastive_loss_wide_forward_kernel
//   block, grid    the same; 64 x 48 logits for each warp
//   tile           WideTile: 128 anchors x 192 candidates
//   stages         2: one stage of the width, of anchors and candidates, is multiplied while
//                  cp.async loads the next
//   registers      at most 255
//   shared memory  WideTile::shared_bytes: 92,160 bytes
//   blocks per SM  1
#pragma once
#include "kernels/contrastive_loss_rows.cuh"
#include "kernels/contrastive_loss_tiles.cuh"
#include "kernels/contrastive_loss_wide.cuh"

namespace usvs::cuda {

constexpr float kLowestFloat = -kLargestFloat;  // not -inf: -inf - -inf is NaN

// Largest logit and sum of exponentials of the logits that were added.
struct RunningLogSum {
  float largest = kLowestFloat;
  float sum = 0;           // of exp(logit - largest)
  float compensation = 0;  // Kahan's: without it a sum of a million terms has an error of 1e-5

  __device__ __forceinline__ void rescale(float to) {
    const float factor = fast_exp(largest - to);
    largest = to;
    sum *= factor;
    compensation *= factor;
  }
  __device__ __forceinline__ void add(float more) {
    const float corrected = more - compensation, total = sum + corrected;
    compensation = (total - sum) - corrected;
    sum = total;
  }
  __device__ __forceinline__ void join(const RunningLogSum& other) {
    RunningLogSum moved = other;
    const float to = fmaxf(largest, other.largest);
    rescale(to);
    moved.rescale(to);
    add(moved.sum);
  }
};

// A lane's largest similarity in one row of a tile, `row` 0 or 1.
template <int kFragments>
__device__ __forceinline__ float largest_of_row(const float (&tile)[kFragments][4], int row) {
  float largest = fmaxf(tile[0][2 * row], tile[0][2 * row + 1]);
#pragma unroll
  for (int fragment = 1; fragment < kFragments; ++fragment) {
    largest = fmaxf(largest, fmaxf(tile[fragment][2 * row], tile[fragment][2 * row + 1]));
  }
  return largest;
}
// A lane's sum of exp(logit - largest) over the same row.
template <int kFragments>
__device__ __forceinline__ float sum_of_row(const float (&tile)[kFragments][4], int row,
                                            float scale, float largest) {
  float sum = 0;
#pragma unroll
  for (int fragment = 0; fragment < kFragments; ++fragment) {
    sum += fast_exp(fmaf(tile[fragment][2 * row], scale, -largest)) +
           fast_exp(fmaf(tile[fragment][2 * row + 1], scale, -largest));
  }
  return sum;
}

// Adds a lane's similarities of one row of a tile to its sum.
template <int kFragments>
__device__ __forceinline__ void accumulate_logits(const float (&tile)[kFragments][4], int row,
                                                  float scale, RunningLogSum& running) {
  running.rescale(fmaxf(running.largest, largest_of_row(tile, row) * scale));
  running.add(sum_of_row(tile, row, scale, running.largest));
}

// The sums of the 64 rows of a warp: of rows 16 i + lane / 4 and 8 more in the lanes with lane % 4
// == i. A sum of its own in each of the four lanes that have logits of a row would take four times
// the registers.
struct WideLogSums {
  RunningLogSum owned[2];

  // Adds the logits of rows 16 `block` ...; all lanes must call this.
  __device__ __forceinline__ void add(const float (&tile)[WideTile::fragments][4], int block,
                                      float scale) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float top = largest_of_row(tile, h);
#pragma unroll
      for (int lane_mask = 1; lane_mask < 4; lane_mask *= 2) {
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, lane_mask));
      }
      const float before = __shfl_sync(0xffffffffu, owned[h].largest, lane / 4 * 4 + block);
      const float largest = fmaxf(before, top * scale);
      float sum = sum_of_row(tile, h, scale, largest);
#pragma unroll
      for (int lane_mask = 1; lane_mask < 4; lane_mask *= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, lane_mask);
      }
      if (lane % 4 != block) continue;
      owned[h].rescale(largest);
      owned[h].add(sum);
    }
  }
};

// Writes loss and logsumexp of the block's rows, a warp for each; `sums` holds {largest, sum} of
// each row for every part of the columns. The lanes divide the parts: one after the other they
// would wait for memory as often as there are parts.
template <typename Shape, typename Input>
__device__ void write_losses(const ContrastiveForwardParams<Input>& params,
                             const BlockTile<Shape>& block_tile, const float2* sums, int parts) {
  const int lane = threadIdx.x % 32, rows = block_tile.owned_rows(params.rows);
  for (int i = threadIdx.x / 32; i < rows; i += kWarps) {
    const int row = block_tile.first_row() + i;
    float largest = kLowestFloat;
    for (int part = lane; part < parts; part += 32) {
      largest = fmaxf(largest, sums[part * Shape::rows + i].x);
    }
    for (int lane_mask = 16; lane_mask > 0; lane_mask /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, lane_mask));
    }
    double total = 0;
    for (int part = lane; part < parts; part += 32) {
      const float2 partial = sums[part * Shape::rows + i];
      total += partial.y * fast_exp(partial.x - largest);
    }
    for (int lane_mask = 16; lane_mask > 0; lane_mask /= 2) {
      total += __shfl_xor_sync(0xffffffffu, total, lane_mask);
    }
    const Margin margin = compute_margin(params, row);
    if (lane != 0) continue;
    const int64_t self = params.self_index[row];
    // Without candidates, or with an index that does not exist, the result is NaN; the logsumexp
    // alone of no candidates is -inf.
    const bool any = total != 0 || params.form == ContrastiveForm::logsumexp;
    const double logsumexp =
        any && self >= -1 && self < params.columns ? largest + log(total) : NAN;
    params.logsumexp[row] = static_cast<float>(logsumexp);
    params.losses[row] = static_cast<float>(logsumexp - margin.positive - margin.value);
  }
}

// Sets a lane's similarities to -inf for the anchor itself and behind the last candidate. Few tiles
// have any of these.
template <int kWidth = kSliceWidth, int kFragments, typename Input>
__device__ __forceinline__ void mask_similarities(float (&tile)[kFragments][4], const Input* x_rows,
                                                  int first_column, int columns) {
  constexpr int kColumns = 8 * kFragments;
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int self =
        row_metadata<kWidth>(&x_rows[(g + 8 * h) * kPitch<Input, kWidth>]).self - first_column;
    const int behind = columns - first_column;
    if (static_cast<unsigned>(self) >= kColumns && behind >= kColumns) continue;
#pragma unroll
    for (int fragment = 0; fragment < kFragments; ++fragment) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int column = 8 * fragment + 2 * t + j;
        float& value = tile[fragment][2 * h + j];
        value = column < behind && column != self ? value : -INFINITY;
      }
    }
  }
}

// The metadata of anchors as the forward pass needs them: the index of each among the candidates.
// Rows behind the last have one that does not matter.
template <typename Input>
struct ForwardAnchors {
  const ContrastiveForwardParams<Input>& params;

  __device__ __forceinline__ void copy(int row, AnchorMetadata& to) const {
    copy_self_index(to, &params.self_index[row], row < params.rows);
  }
  __device__ __forceinline__ void complete(int, AnchorMetadata&) const {}
};

// Joins the sums of all groups and splits, and writes the losses; `sums` holds {largest, sum} for
// every group and row of the block.
template <typename Shape, typename Input>
__device__ __forceinline__ void join_sums(const ContrastiveForwardParams<Input>& params,
                                          const SplitPlan& plan, const BlockTile<Shape>& block_tile,
                                          float2* sums) {
  __syncthreads();  // sums are complete
  if (plan.splits == 1) return write_losses(params, block_tile, sums, Shape::groups);
  const int64_t tile = block_tile.sums_index(plan);
  float2* const partials =
      &reinterpret_cast<float2*>(plan.partial_sums)[tile * plan.splits * Shape::rows];
  if (threadIdx.x < Shape::rows) {
    RunningLogSum all;
    for (int group = 0; group < Shape::groups; ++group) {
      const float2 part = sums[group * Shape::rows + threadIdx.x];
      RunningLogSum other;
      other.largest = part.x;
      other.sum = part.y;
      all.join(other);
    }
    partials[block_tile.split() * Shape::rows + threadIdx.x] = make_float2(all.largest, all.sum);
  }
  if (!is_last_block(&plan.finished[tile], plan.splits)) return;
  write_losses(params, block_tile, partials, plan.splits);
}

template <typename Shape, typename Input, bool kOneSlice>
__global__ void __launch_bounds__(kThreads, 2)
    contrastive_loss_forward_kernel(ContrastiveForwardParams<Input> params, EmbeddingLayout layout,
                                    SplitPlan plan) {
  USVS_DYNAMIC_SHARED(Input, shared, 0, Shape::template tiles_bytes<Input> / sizeof(Input));
  const BlockTile<Shape> block_tile{static_cast<int>(blockIdx.x)};
  const Operands<true, Input> operands(params);
  const float scale = logit_scale(params);
  RunningLogSum running[2];
  stream_tiles<Shape, kOneSlice, kOneSlice && sizeof(Input) == 2>(
      operands, layout, plan, block_tile, shared, ForwardAnchors<Input>{params},
      [&](int column, float (&tile)[Shape::fragments][4], const Input* x_rows, const Input*, bool) {
        mask_similarities(tile, x_rows, column, operands.columns);
        accumulate_logits(tile, 0, scale, running[0]);
        accumulate_logits(tile, 1, scale, running[1]);
      });
  __syncthreads();  // all warps have read the tiles, which the sums overwrite
  float2* const sums = reinterpret_cast<float2*>(shared);  // [groups, rows]
  const int lane = threadIdx.x % 32, row = row_warp<Shape>() * 16 + lane / 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int lane_mask = 1; lane_mask < 4; lane_mask *= 2) {
      RunningLogSum other;
      other.largest = __shfl_xor_sync(0xffffffffu, running[h].largest, lane_mask);
      other.sum = __shfl_xor_sync(0xffffffffu, running[h].sum, lane_mask);
      running[h].join(other);
    }
    if (lane % 4 == 0) {
      sums[column_group<Shape>() * Shape::rows + row + 8 * h] =
          make_float2(running[h].largest, running[h].sum);
    }
  }
  join_sums(params, plan, block_tile, sums);
}

// A width of several slices of bfloat16, in WideTile.
__global__ void __launch_bounds__(kThreads, 1)
    contrastive_loss_wide_forward_kernel(ContrastiveForwardParams<BFloat16> params,
                                         EmbeddingLayout layout, SplitPlan plan) {
  USVS_DYNAMIC_SHARED(BFloat16, shared, 0, WideTile::shared_bytes / sizeof(BFloat16));
  const BlockTile<WideTile> block_tile{static_cast<int>(blockIdx.x)};
  const Operands<true, BFloat16> operands(params);
  const float scale = logit_scale(params);
  WideLogSums running;
  stream_wide_tiles(operands, layout, plan, block_tile, shared, ForwardAnchors<BFloat16>{params},
                    [&](int column, int block, float (&tile)[WideTile::fragments][4],
                        const BFloat16* x_rows, const BFloat16*, bool) {
                      mask_similarities<kStageWidth>(tile, x_rows, column, operands.columns);
                      running.add(tile, block, scale);
                    });
  __syncthreads();  // all warps have read the tiles, which the sums overwrite
  float2* const sums = reinterpret_cast<float2*>(shared);  // [groups, rows]
  // Of the rows of which this lane has the sums.
  const int lane = threadIdx.x % 32, row = 16 * (lane % 4) + lane / 4;
  const int at =
      column_group<WideTile>() * WideTile::rows + row_warp<WideTile>() * WideTile::warp_rows;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    sums[at + row + 8 * h] = make_float2(running.owned[h].largest, running.owned[h].sum);
  }
  join_sums(params, plan, block_tile, sums);
}

}  // namespace usvs::cuda
