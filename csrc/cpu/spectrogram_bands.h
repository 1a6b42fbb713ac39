// From power to rows of the result: logarithm, then linear resize in time.
#pragma once
#include "cpu/spectrogram_frames.h"
#include "cpu/vector_bfloat16.h"
#include "cpu/vector_math.h"

namespace usvs::cpu::USVS_LEVEL {

// Writes results as they are, or rounded to bfloat16.
template <bool Streaming, typename Real>
USVS_INLINE void store_output(Real* to, Vector<Real> value) {
  if constexpr (Streaming) {
    store_streaming(to, value);
  } else {
    store(to, value);
  }
}
template <bool Streaming>
USVS_INLINE void store_output(BFloat16* to, Vector<float> value) {
  store_bfloat16<Streaming>(to, value);
}
USVS_INLINE void store_output_element(float* to, float value) { *to = value; }
USVS_INLINE void store_output_element(double* to, double value) { *to = value; }
USVS_INLINE void store_output_element(BFloat16* to, float value) {
  to->bits = rounded_bfloat16(value);
}

// The inputs of the rows of one step: the logarithms of the previous step, and the power of this
// step, which is replaced by its logarithm.
template <typename Real, typename Output>
struct BandRows {
  const Real* before;  // [bands, lanes]
  Real* now;           // [bands, lanes]
  int64_t bands;
  Output* out;  // [bands, out_stride]
  int64_t out_stride;
};

// `Count` vectors of columns: the lanes of two steps that they are interpolated from, the weights,
// and the output.
template <int Count, typename Real, typename Output>
struct ColumnVectors {
  IntVector<Real> low[Count], high[Count];
  Vector<Real> weight[Count];
  Output* out[Count];

  USVS_INLINE ColumnVectors(const SpectrogramPlan<Real>& plan, int64_t first, Output* rows) {
    unroll<Count>([&](auto v) USVS_INLINE_LAMBDA {
      const int64_t at = (first + v) * kLanes<Real>;
      std::memcpy(&low[v], plan.vector_low.data() + at, sizeof(low[v]));
      std::memcpy(&high[v], plan.vector_high.data() + at, sizeof(high[v]));
      weight[v] = load(plan.vector_weight.data() + at);
      out[v] = rows + plan.vector_column[first + v];
    });
  }

  // Writes one band and advances to the next.
  template <bool Streaming>
  USVS_INLINE void write(Vector<Real> before, Vector<Real> now, int64_t out_stride) {
    unroll<Count>([&](auto v) USVS_INLINE_LAMBDA {
      const Vector<Real> at_low = __builtin_shuffle(before, now, low[v]);
      const Vector<Real> at_high = __builtin_shuffle(before, now, high[v]);
      store_output<Streaming>(out[v], at_low + weight[v] * (at_high - at_low));
      out[v] += out_stride;
    });
  }
};

// NaN where the power, eps included, is not finite.
template <typename Real>
USVS_INLINE Vector<Real> log_of_power(Vector<Real> power) {
  return log_of_finite(power) + (power - power);
}

template <typename Real>
USVS_INLINE void apply_logarithm(Real* power, int64_t bands) {
  for (int64_t i = 0; i < bands * kLanes<Real>; i += kLanes<Real>) {
    store(power + i, log_of_power<Real>(load(power + i)));
  }
}

template <int Count, bool Streaming, typename Real, typename Output>
void write_vectors(const SpectrogramPlan<Real>& plan, int64_t first,
                   const BandRows<Real, Output>& rows) {
  ColumnVectors<Count, Real, Output> vectors(plan, first, rows.out);
  const int64_t end = rows.bands * kLanes<Real>, stride = rows.out_stride;
  const Real *before = rows.before, *now = rows.now;
  for (int64_t i = 0; i < end; i += kLanes<Real>) {
    vectors.template write<Streaming>(load(before + i), load(now + i), stride);
  }
}

// Writes two steps of two vectors each; `between` and `rows.now` still hold power. Writes longer
// pieces of a row at a time and keeps logarithms in registers.
template <bool Streaming, typename Real, typename Output>
void write_two_steps(const SpectrogramPlan<Real>& plan, int64_t first, const Real* between,
                     const BandRows<Real, Output>& rows) {
  ColumnVectors<2, Real, Output> earlier(plan, first, rows.out), later(plan, first + 2, rows.out);
  const int64_t end = rows.bands * kLanes<Real>, stride = rows.out_stride;
  const Real* before = rows.before;
  Real* const now = rows.now;
  for (int64_t i = 0; i < end; i += kLanes<Real>) {
    const Vector<Real> middle = log_of_power<Real>(load(between + i)),
                       last = log_of_power<Real>(load(now + i));
    store(now + i, last);
    earlier.template write<Streaming>(load(before + i), middle, stride);
    later.template write<Streaming>(middle, last, stride);
  }
}

template <bool Streaming, typename Real, typename Output>
void write_all_vectors(const SpectrogramPlan<Real>& plan, const SpectrogramStep& step,
                       const BandRows<Real, Output>& rows) {
  int64_t vector = step.vector_begin;
  for (; vector + 2 <= step.vector_end; vector += 2) {
    write_vectors<2, Streaming>(plan, vector, rows);
  }
  if (vector < step.vector_end) write_vectors<1, Streaming>(plan, vector, rows);
}

template <typename Real, typename Output>
void write_singles(const SpectrogramPlan<Real>& plan, const SpectrogramStep& step,
                   const BandRows<Real, Output>& rows) {
  constexpr int64_t lanes = kLanes<Real>;
  for (int64_t single = step.single_begin; single < step.single_end; ++single) {
    const int64_t low = plan.single_low[single], high = plan.single_high[single];
    const Real* at_low = low < lanes ? rows.before + low : rows.now + low - lanes;
    const Real* at_high = high < lanes ? rows.before + high : rows.now + high - lanes;
    const int64_t column = plan.single_column[single];
    const Real weight = plan.weight[column];
    for (int64_t band = 0; band < rows.bands; ++band) {
      const Real value = at_low[band * lanes];
      store_output_element(rows.out + band * rows.out_stride + column,
                           value + weight * (at_high[band * lanes] - value));
    }
  }
}

// Whether every vector of the result is aligned for non-temporal stores.
template <typename Real, typename Output>
bool can_stream(const LogSpectrogramInputs<Real>& params, const SpectrogramPlan<Real>& plan,
                const Output* out) {
  constexpr int64_t bytes = kLanes<Real> * sizeof(Output);
  return plan.aligned && params.frames % kLanes<Real> == 0 &&
         reinterpret_cast<uintptr_t>(out) % bytes == 0;
}

// Writes the rows of a tile step by step, and two steps at a time if both consist of two vectors.
template <typename Real, typename Output>
class TileWriter {
 public:
  TileWriter(const LogSpectrogramForwardParams<Real>& params, const SpectrogramPlan<Real>& plan,
             const SpectrogramTile& tile, int64_t clip, bool streaming,
             const SpectrogramScratch<Real>& scratch)
      : plan_(plan),
        step_(plan.steps.data() + tile.step_begin),
        end_(step_ + (tile.frames + kLanes<Real> - 1) / kLanes<Real>),
        before_(scratch.bands[0]),
        between_(scratch.bands[1]),
        rows_{nullptr, scratch.bands[2], params.bands(),
              static_cast<Output*>(params.output) + clip * params.bands() * params.frames,
              params.frames},
        streaming_(streaming && can_stream(params, plan, rows_.out)) {}
  ~TileWriter() {
    if (streaming_) finish_streaming();
  }

  // Buffer for the power of the next step, [bands, lanes].
  Real* power() const { return step_pending_ ? rows_.now : between_; }

  void write_step() {
    rows_.before = before_;
    if (step_pending_) {
      streaming_ ? write_two_steps<true>(plan_, step_[-1].vector_begin, between_, rows_)
                 : write_two_steps<false>(plan_, step_[-1].vector_begin, between_, rows_);
      swap_pointers(before_, rows_.now);
      step_pending_ = false;
    } else if (step_ + 1 < end_ && is_two_vectors(step_[0]) && is_two_vectors(step_[1])) {
      step_pending_ = true;
    } else {
      BandRows<Real, Output> rows = rows_;
      rows.now = between_;
      apply_logarithm(between_, rows.bands);
      streaming_ ? write_all_vectors<true>(plan_, *step_, rows)
                 : write_all_vectors<false>(plan_, *step_, rows);
      write_singles(plan_, *step_, rows);
      swap_pointers(before_, between_);
    }
    ++step_;
  }

 private:
  static void swap_pointers(Real*& a, Real*& b) {
    Real* const before = a;
    a = b;
    b = before;
  }
  static bool is_two_vectors(const SpectrogramStep& step) {
    return step.vector_end - step.vector_begin == 2 && step.single_begin == step.single_end;
  }

  const SpectrogramPlan<Real>& plan_;
  const SpectrogramStep *step_, *end_;
  Real *before_, *between_;
  BandRows<Real, Output> rows_;
  bool streaming_;
  bool step_pending_ = false;  // the step in between_ will be written together with the next one
};

}  // namespace usvs::cpu::USVS_LEVEL
