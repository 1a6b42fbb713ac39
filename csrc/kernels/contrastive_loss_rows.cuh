// Computed once for each row: the margin of an anchor, and the reduction of the splits of a row
// tile.
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

constexpr float kLargestFloat = 3.402823466e38f;

// T. NaN if the tensor that holds it has a value out of range: the host cannot read it without
// waiting.
template <typename Input>
__device__ __forceinline__ double temperature_of(const ContrastiveLossInputs<Input>& params) {
  if (!params.device_temperature) return params.temperature;
  const double temperature = params.device_temperature[0];
  return temperature > 0 && temperature <= kLargestFloat ? temperature : NAN;
}

// A similarity times this is a logit. Rounding it to float changes logits by 2^-24, less than the
// tensor cores' products do.
template <typename Input>
__device__ __forceinline__ float logit_scale(const ContrastiveLossInputs<Input>& params) {
  return static_cast<float>(1 / temperature_of(params));
}

// In float64: the loss is a small difference between these terms and the logsumexp.
struct Margin {
  double positive;  // v.s / T; 0 for logsumexp
  double slope;     // g'(m); 0 for ntxent and logsumexp
  double value;     // g(m); 0 for ntxent and logsumexp
};

// All lanes of a warp must call this; every lane gets the result.
template <typename Input>
__device__ Margin compute_margin(const ContrastiveLossInputs<Input>& params, int row) {
  if (params.form == ContrastiveForm::logsumexp) return {0, 0, 0};
  const int64_t offset = int64_t{row} * params.width;
  const double temperature = temperature_of(params);
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
  positive /= temperature;
  if (params.form == ContrastiveForm::ntxent) return {positive, 0, 0};
  const double margin = positive - negative / temperature;
  const double tangent_point = margin < params.margin_floor ? params.margin_floor : margin;
  const double slope = 1 / expm1(tangent_point);
  return {positive, slope, log(-expm1(-tangent_point)) + (margin - tangent_point) * slope};
}

// Whether all splits of a tile have written their partial sums, which makes this block the one that
// adds them. All threads of the block must call this; they get the same answer and see the partial
// sums.
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
