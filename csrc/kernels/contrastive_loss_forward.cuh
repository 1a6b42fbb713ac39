// Contrastive loss, forward pass: computes logits tile by tile and keeps the largest logit and the
// sum of exponentials of each row.
//
//   block          256 threads, 8 warps; 128 anchors, 16 for each warp
//   tile           128 anchors x 32 candidates (kTileColumns)
//   grid           row tiles x splits of the candidates; the last split writes the losses
//   stages         2: one tile of candidates is multiplied while cp.async loads the next
//   tensor cores   3 mma.m16n8k8 (tf32) per float32 product; mma.m16n8k16 for bfloat16
//   registers      at most 128; on sm_90 120 (float32) and 72, above d = 128 92 (bfloat16)
//   shared memory  kTilesBytes: 101,376 bytes (float32), 52,224 bytes (bfloat16)
//   blocks per SM  2; float32 on sm_80: 1
#pragma once
#include "kernels/contrastive_loss_rows.cuh"
#include "kernels/contrastive_loss_tiles.cuh"

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

// Adds a lane's similarities of one row of a tile, `row` 0 or 1, to its sum.
template <int kFragments>
__device__ __forceinline__ void accumulate_logits(const float (&tile)[kFragments][4], int row,
                                                  float scale, RunningLogSum& running) {
  float largest = fmaxf(tile[0][2 * row], tile[0][2 * row + 1]);
#pragma unroll
  for (int fragment = 1; fragment < kFragments; ++fragment) {
    largest = fmaxf(largest, fmaxf(tile[fragment][2 * row], tile[fragment][2 * row + 1]));
  }
  largest = fmaxf(running.largest, largest * scale);
  running.rescale(largest);
  float sum = 0;
#pragma unroll
  for (int fragment = 0; fragment < kFragments; ++fragment) {
    sum += fast_exp(fmaf(tile[fragment][2 * row], scale, -largest)) +
           fast_exp(fmaf(tile[fragment][2 * row + 1], scale, -largest));
  }
  running.add(sum);
}

// Writes loss and logsumexp of the block's rows; `sums` holds {largest, sum} of each row for every
// split.
template <typename Input>
__device__ void write_losses(const ContrastiveForwardParams<Input>& params,
                             const BlockTile& block_tile, const float2* sums, int splits) {
  const int rows = owned_rows(params.rows, block_tile);
  for (int i = threadIdx.x / 32; i < rows; i += kWarps) {
    const int row = block_tile.first_row() + i;
    float largest = kLowestFloat;
    for (int split = 0; split < splits; ++split) {
      largest = fmaxf(largest, sums[split * kTileRows + i].x);
    }
    double total = 0;
    for (int split = 0; split < splits; ++split) {
      const float2 partial = sums[split * kTileRows + i];
      total += partial.y * fast_exp(partial.x - largest);
    }
    const Margin margin = compute_margin(params, row);
    if (threadIdx.x % 32 != 0) continue;
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
template <typename Input>
__device__ __forceinline__ void mask_similarities(float (&tile)[kFragments][4], const Input* x_rows,
                                                  int first_column, int columns) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int self = row_metadata(&x_rows[(g + 8 * h) * kPitch<Input>]).self - first_column;
    const int behind = columns - first_column;
    if (static_cast<unsigned>(self) >= kTileColumns && behind >= kTileColumns) continue;
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

template <typename Input, bool kOneSlice>
__global__ void __launch_bounds__(kThreads, 2)
    contrastive_loss_forward_kernel(ContrastiveForwardParams<Input> params, EmbeddingLayout layout,
                                    SplitPlan plan) {
  USVS_DYNAMIC_SHARED(Input, shared, 0, kTilesBytes<Input> / sizeof(Input));
  const BlockTile block_tile{static_cast<int>(blockIdx.x)};
  const Operands<true, Input> operands(params);
  const float scale = logit_scale(params);
  RunningLogSum running[2];
  stream_tiles<kOneSlice>(
      operands, layout, plan, block_tile, shared,
      [&](int row) {
        return AnchorMetadata{0, 0,
                              row < operands.rows ? static_cast<int>(params.self_index[row]) : -1};
      },
      [&](int column, float (&tile)[kFragments][4], const Input* x_rows, const Input*, bool) {
        mask_similarities(tile, x_rows, column, operands.columns);
        accumulate_logits(tile, 0, scale, running[0]);
        accumulate_logits(tile, 1, scale, running[1]);
      });
  __syncthreads();  // all warps have read the tiles, which the sums overwrite
  float2* sums = reinterpret_cast<float2*>(shared);
  const bool is_split = plan.splits > 1;
  if (is_split) {
    sums = reinterpret_cast<float2*>(plan.partial_sums) +
           int64_t{block_tile.sums_index(plan)} * plan.splits * kTileRows;
  }
  float2* const own = &sums[block_tile.split() * kTileRows];
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
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
      own[row + 8 * h] = make_float2(running[h].largest, running[h].sum);
    }
  }
  if (is_split) {
    if (!is_last_block(&plan.finished_splits[block_tile.sums_index(plan)], plan.splits)) return;
  } else {
    __syncthreads();
  }
  write_losses(params, block_tile, sums, plan.splits);
}

}  // namespace usvs::cuda
