// What is finished_splits once a row: the margin of an anchor, and the meeting of blocks that split
// its columns.
#pragma once
#include "contrastive_loss.h"
#include "kernels/contrastive_loss_plan.h"
#include "kernels/simt.h"

namespace usvs::cuda {

using namespace simt;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(BFloat16 x) {
  return __uint_as_float(uint32_t{x.bits} << 16);
}
__device__ __forceinline__ void store_rounded(float x, float& to) { to = x; }
__device__ __forceinline__ void store_rounded(float x, BFloat16& to) {
  to.bits = static_cast<uint16_t>(pack_bf16(x, 0.0f));
}

// In double: the loss is a small difference of these and the logsumexp.
struct Margin {
  double positive;  // v.s / T
  double slope;     // g'(m), 0 in a form without a margin
  double value;     // g(m), likewise
};

// Called by a whole warp; every lane gets the result.
template <typename Input>
__device__ Margin compute_margin(const ContrastiveLossParams<Input>& params, int row) {
  const int64_t offset = int64_t{row} * params.width;
  double positive = 0, negative = 0;
  for (int64_t k = threadIdx.x % 32; k < params.width; k += 32) {
    const double v = widen(params.anchors[offset + k]);
    positive += v * widen(params.positives[offset + k]);
    negative += v * widen(params.hard_negatives[offset + k]);
  }
  for (int lane_mask = 16; lane_mask > 0; lane_mask /= 2) {
    positive += __shfl_xor_sync(0xffffffffu, positive, lane_mask);
    negative += __shfl_xor_sync(0xffffffffu, negative, lane_mask);
  }
  positive /= params.temperature;
  if (params.form == ContrastiveForm::ntxent) return {positive, 0, 0};
  const double margin = positive - negative / params.temperature;
  const double tangent_point = margin < params.margin_floor ? params.margin_floor : margin;
  const double slope = 1 / expm1(tangent_point);
  return {positive, slope, log(-expm1(-tangent_point)) + (margin - tangent_point) * slope};
}

// Whether all blocks that block_tile a tile have written their parts, so that this one, the last,
// may read them. Every thread of the block has the answer, and sees the parts.
__device__ __forceinline__ bool is_last_block(unsigned* finished_splits, int splits) {
  __syncthreads();
  bool last = false;
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(finished_splits, 1u) == static_cast<unsigned>(splits) - 1;
    __threadfence();
  }
  return __syncthreads_or(last);
}

}  // namespace usvs::cuda
