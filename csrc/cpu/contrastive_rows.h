// Computed once for each anchor or candidate: margins, sums of partial results, rounded gradients.
#pragma once
#include "cpu/contrastive_loss_simd.h"
#include "cpu/matrix_tile.h"

namespace usvs::cpu::USVS_LEVEL {

USVS_INLINE void store_rounded(float value, float& to) { to = value; }
USVS_INLINE void store_rounded(double value, double& to) { to = value; }
USVS_INLINE void store_rounded(float value, BFloat16& to) { to.bits = rounded_bfloat16(value); }

// In sixteen independent sums, so that additions overlap.
template <typename Input>
USVS_INLINE double dot(const Input* left, const Input* right, int64_t width) {
  double sums[16] = {}, total = 0;
  int64_t k = 0;
  for (; k + 16 <= width; k += 16) {
    for (int64_t i = 0; i < 16; ++i) {
      sums[i] += static_cast<double>(widen(left[k + i])) * widen(right[k + i]);
    }
  }
  for (; k < width; ++k) total += static_cast<double>(widen(left[k])) * widen(right[k]);
  for (int64_t i = 0; i < 16; ++i) total += sums[i];
  return total;
}

template <typename Input>
ContrastiveMargin compute_margin(const ContrastiveLossInputs<Input>& params, int64_t row) {
  if (params.form == ContrastiveForm::logsumexp) return {0, 0, 0};
  const int64_t offset = row * params.width;
  const Input* anchor = params.anchors + offset;
  const double positive = dot(anchor, params.positives + offset, params.width) / params.temperature;
  if (params.form == ContrastiveForm::ntxent) return {positive, 0, 0};
  const double negative = dot(anchor, params.hard_negatives + offset, params.width);
  const double margin = positive - negative / params.temperature;
  const double floor = params.margin_floor, tangent_point = margin < floor ? floor : margin;
  const double slope = 1 / __builtin_expm1(tangent_point);  // and 1 - exp(-m) = 1 / (1 + slope)
  return {positive, slope, (margin - tangent_point) * slope - __builtin_log1p(slope)};
}

// Derivatives of a weighted loss with respect to v.s and v.s'.
template <typename Real>
struct PairSlopes {
  Real positive, negative;
  PairSlopes(double weight, double margin_slope, double temperature)
      : positive(-weight * (1 + margin_slope) / temperature),
        negative(weight * margin_slope / temperature) {}
};

// sum [width] += the gradient of an anchor through its positive and its hard negative.
template <typename Input, typename Real>
void add_pair_gradient(const ContrastiveLossInputs<Input>& params, int64_t row, double weight,
                       double margin_slope, Real* __restrict sum) {
  if (params.form == ContrastiveForm::logsumexp) {
    const Real nothing = Real(0 * margin_slope);  // NaN for an anchor without a loss
    for (int64_t k = 0; k < params.width; ++k) sum[k] += nothing;
    return;
  }
  const PairSlopes<Real> slopes(weight, margin_slope, params.temperature);
  const Input* const positive = params.positives + row * params.width;
  for (int64_t k = 0; k < params.width; ++k) sum[k] += slopes.positive * widen(positive[k]);
  if (params.form == ContrastiveForm::ntxent) return;  // 0 times a NaN would be a NaN
  const Input* const hard_negative = params.hard_negatives + row * params.width;
  for (int64_t k = 0; k < params.width; ++k) sum[k] += slopes.negative * widen(hard_negative[k]);
}

// Writes the gradients of an anchor's positive and hard negative.
template <typename Input>
void pair_gradients(const ContrastiveBackwardParams<Input>& params, int64_t row, double weight,
                    double margin_slope) {
  using Real = typename Accumulated<Input>::type;
  if (params.form == ContrastiveForm::logsumexp) return;
  const PairSlopes<Real> slopes(weight, margin_slope, params.temperature);
  const Input* const anchor = params.anchors + row * params.width;
  Input* const __restrict positive_grad = params.positives_grad + row * params.width;
  Input* const __restrict hard_negative_grad = params.hard_negatives_grad + row * params.width;
  for (int64_t k = 0; k < params.width; ++k) {
    const Real v = widen(anchor[k]);
    store_rounded(slopes.positive * v, positive_grad[k]);
    store_rounded(slopes.negative * v, hard_negative_grad[k]);
  }
}

// to = factor * values, rounded to Input.
template <typename Input, typename Real>
void scale_and_store(const Real* __restrict values, Real factor, int64_t elements,
                     Input* __restrict to) {
  for (int64_t i = 0; i < elements; ++i) store_rounded(factor * values[i], to[i]);
}

// sum [complete panels of width] of `partials` rows that are `stride` elements apart, in order; may
// be the first of them.
template <typename Real>
void sum_partials(const Real* first, int64_t partials, int64_t stride, int64_t width, Real* sum) {
  constexpr int64_t panel_width = kPanel<Real>;
  if (partials == 1 && sum == first) return;
  for (int64_t begin = 0; begin < width; begin += panel_width) {
    double sums[panel_width];
    for (int64_t k = 0; k < panel_width; ++k) sums[k] = first[begin + k];
    for (int64_t i = 1; i < partials; ++i) {
      for (int64_t k = 0; k < panel_width; ++k) sums[k] += first[i * stride + begin + k];
    }
    for (int64_t k = 0; k < panel_width; ++k) sum[begin + k] = Real(sums[k]);
  }
}

}  // namespace usvs::cpu::USVS_LEVEL
