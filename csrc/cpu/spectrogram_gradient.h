// The gradient of the log-spectrogram with respect to the waveform, tile by tile.
//
// With G = dL/d ln(power + eps) of each band and frame, the gradient of frame sample i is
//   window[i] * Re sum_{k = 1 .. N/2} conj(X_k) * 2 G_k / (power_k + eps) * w_N^(k i).
#pragma once
#include "cpu/spectrogram_frames.h"

namespace usvs::cpu::USVS_LEVEL {

template <typename Real>
struct StoreSpectrum {
  Real* spectrum;  // [bands, 2, lanes]
  USVS_INLINE void operator()(int64_t band, Complex<Vector<Real>> x) const {
    store(spectrum + band * 2 * kLanes<Real>, x.re);
    store(spectrum + (band * 2 + 1) * kLanes<Real>, x.im);
  }
  USVS_INLINE void pause() const {}
};

template <typename Real>
struct GradientScratch {
  Real* spectrum;         // [bands, 2, lanes] of `lanes` frames
  Real* frame_grad;       // [bands, frame_stride] G
  Real* transposed_grad;  // [block, block_stride]
  Real* middle;           // [R1, R2, 2, lanes] between the two sums
};

// Computes G: every column adds its gradient to the two frames that it was interpolated from.
template <typename Real>
void spread_to_frames(const LogSpectrogramInputs<Real>& params, const SpectrogramPlan<Real>& plan,
                      const SpectrogramTile& tile, const Real* grad, Real* frame_grad) {
  for (int64_t band = 0; band < params.bands(); ++band) {
    const Real* from = grad + band * params.frames;
    Real* to = frame_grad + band * plan.frame_stride;
    fill_zero(to, plan.frame_stride);
    for (int64_t column = tile.column_begin; column < tile.column_end; ++column) {
      to[plan.low[column]] += from[column] * (1 - plan.weight[column]);
      to[plan.high[column]] += from[column] * plan.weight[column];
    }
  }
}

// For every k1: the transform over k2 of conj(X) * 2 G / (power + eps), times w_N^(k1 n2).
template <typename Real, int R2>
void sum_over_k2(const LogSpectrogramInputs<Real>& params, const SpectrogramPlan<Real>& plan,
                 int64_t t, const GradientScratch<Real>& scratch) {
  constexpr int lanes = kLanes<Real>;
  using C = Complex<Vector<Real>>;
  const Real eps = Real(params.eps);
  for (int64_t k1 = 0; k1 < plan.first_stage; ++k1) {
    C x[R2];
    for (int k2 = 0; k2 < R2; ++k2) {
      const int64_t bin = k1 + plan.first_stage * k2;
      if (bin == 0 || bin > params.bands()) {
        x[k2] = C{Vector<Real>{}, Vector<Real>{}};
        continue;
      }
      const Real* from = scratch.spectrum + (bin - 1) * 2 * lanes;
      const C value{load(from), load(from + lanes)};
      const Vector<Real> slope = 2 * load(scratch.frame_grad + (bin - 1) * plan.frame_stride + t) /
                                 (value.re * value.re + value.im * value.im + eps);
      x[k2] = C{value.re * slope, -value.im * slope};
    }
    dft<R2, Real>(x);
    const Real* w = plan.twiddles.data() + k1 * R2 * 2;
    Real* to = scratch.middle + k1 * R2 * 2 * lanes;
    for (int n2 = 0; n2 < R2; ++n2) {
      const C rotated = multiply(x[n2], w[2 * n2], w[2 * n2 + 1]);
      store(to + n2 * 2 * lanes, rotated.re);
      store(to + (n2 * 2 + 1) * lanes, rotated.im);
    }
  }
}

// For every n2: the transform over k1; its real part is the gradient of samples n2 + R2 m.
template <typename Real, int R1>
void sum_over_k1(const SpectrogramPlan<Real>& plan, int64_t t,
                 const GradientScratch<Real>& scratch) {
  constexpr int lanes = kLanes<Real>;
  const int64_t points = plan.half_window ? R1 / 2 : R1;
  const int64_t row = plan.second_stage * 2 * lanes;
  for (int64_t n2 = 0; n2 < plan.second_stage; ++n2) {
    Complex<Vector<Real>> x[R1];
    for (int k1 = 0; k1 < R1; ++k1) {
      const Real* from = scratch.middle + k1 * row + n2 * 2 * lanes;
      x[k1] = {load(from), load(from + lanes)};
    }
    dft<R1, Real>(x);
    for (int64_t m = 0; m < points; ++m) {
      const Real weight = plan.weight_in_window[n2 * points + m];
      if (weight == 0) continue;  // outside the window
      Real* to = scratch.transposed_grad + plan.sample_index[n2 * points + m] + t;
      store(to, load(to) + weight * x[m].re);
    }
  }
}

template <typename Real>
void frame_gradients(const LogSpectrogramInputs<Real>& params, const SpectrogramPlan<Real>& plan,
                     int64_t t, const GradientScratch<Real>& scratch) {
  switch (plan.second_stage) {
    case 8:
      sum_over_k2<Real, 8>(params, plan, t, scratch);
      break;
    case 16:
      sum_over_k2<Real, 16>(params, plan, t, scratch);
      break;
    case 32:
      sum_over_k2<Real, 32>(params, plan, t, scratch);
      break;
    default:
      sum_over_k2<Real, 64>(params, plan, t, scratch);
  }
  switch (plan.first_stage) {
    case 8:
      return sum_over_k1<Real, 8>(plan, t, scratch);
    case 16:
      return sum_over_k1<Real, 16>(plan, t, scratch);
    case 32:
      return sum_over_k1<Real, 32>(plan, t, scratch);
    default:
      return sum_over_k1<Real, 64>(plan, t, scratch);
  }
}

// Adds the tile's gradient to the clip's, with the reflection of the forward pass.
template <typename Real>
void add_to_clip(const LogSpectrogramInputs<Real>& params, const SpectrogramPlan<Real>& plan,
                 const SpectrogramTile& tile, const Real* transposed_grad, Real* clip_grad) {
  for (int64_t b = 0; b < tile.frames + plan.overlap_hops; ++b) {
    const int64_t start = (tile.frame_begin + b) * params.hop_length + plan.lead;
    for (int64_t i = 0; i < plan.block; ++i) {
      const int64_t to = reflected(start + i, params.samples);
      if (to >= 0 && to < params.samples)
        clip_grad[to] += transposed_grad[i * plan.block_stride + b];
    }
  }
}

template <typename Real>
GradientScratch<Real> allocate_gradient_scratch(const LogSpectrogramInputs<Real>& params,
                                                const SpectrogramPlan<Real>& plan,
                                                ScratchAllocator& allocator) {
  constexpr int64_t lanes = kLanes<Real>;
  return {allocator.allocate<Real>(params.bands() * 2 * lanes),
          allocator.allocate<Real>(params.bands() * plan.frame_stride),
          allocator.allocate<Real>(plan.block * plan.block_stride),
          allocator.allocate<Real>(params.n_fft * 2 * lanes)};
}

template <typename Real>
size_t backward_bytes(const LogSpectrogramInputs<Real>& params, const SpectrogramPlan<Real>& plan) {
  ScratchAllocator allocator(nullptr);
  allocate_scratch(params, plan, allocator);
  allocate_gradient_scratch(params, plan, allocator);
  return allocator.bytes();
}

template <typename Real>
void backward(const LogSpectrogramBackwardParams<Real>& params, const SpectrogramPlan<Real>& plan,
              int64_t clip, Real* clip_grad, void* memory) {
  ScratchAllocator allocator(memory);
  const SpectrogramScratch<Real> scratch = allocate_scratch(params, plan, allocator);
  const GradientScratch<Real> gradient = allocate_gradient_scratch(params, plan, allocator);
  fill_zero(clip_grad, params.samples);
  for (const SpectrogramTile& tile : plan.tiles) {
    spread_to_frames(params, plan, tile, params.output_grad + clip * params.bands() * params.frames,
                     gradient.frame_grad);
    fill_zero(gradient.transposed_grad, plan.block * plan.block_stride);
    for_each_step(params, plan, tile, params.clip(clip), scratch, [&](int64_t t) {
      transform_frames(plan, scratch.blocks + t, scratch.stage,
                       StoreSpectrum<Real>{gradient.spectrum});
      frame_gradients(params, plan, t, gradient);
    });
    add_to_clip(params, plan, tile, gradient.transposed_grad, clip_grad);
  }
}

}  // namespace usvs::cpu::USVS_LEVEL
