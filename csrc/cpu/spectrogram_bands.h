// From the power of the bands to the rows of the result: logarithm, then the linear resize of time.
#pragma once
#include "cpu/spectrogram_frames.h"
#include "cpu/vector_bfloat16.h"
#include "cpu/vector_math.h"

namespace usvs::cpu::USVS_LEVEL {

template <typename Real>
USVS_INLINE void log_row(const Real* power, int64_t frames, Real eps, Real* row) {
  for (int64_t t = 0; t < frames; t += kLanes<Real>) {
    store(row + t, log(load(power + t) + eps));
  }
}

// Results are written as they are, or rounded to bfloat16.
template <bool Streaming, typename Real>
USVS_INLINE void put(Real* to, Vector<Real> value) {
  if constexpr (Streaming) {
    store_streaming(to, value);
  } else {
    store(to, value);
  }
}
template <bool Streaming>
USVS_INLINE void put(BFloat16* to, Vector<float> value) {
  store_bfloat16<Streaming>(to, value);
}
USVS_INLINE void put_one(float* to, float value) { *to = value; }
USVS_INLINE void put_one(double* to, double value) { *to = value; }
USVS_INLINE void put_one(BFloat16* to, float value) { to->bits = rounded_bfloat16(value); }

// One vector of columns of `Rows` neighbouring bands, their frames looked up within one register.
template <int Rows, bool Streaming, typename Real, typename Output>
USVS_INLINE void resize_in_register(const SpectrogramPlan<Real>& plan, int64_t base, int64_t column,
                                    const Real* rows, Output* out, int64_t out_stride) {
  using Ints = IntVector<Real>;
  using Index = typename SpectrogramPlan<Real>::Index;
  auto lanes_of = [&](const std::vector<Index>& table) USVS_INLINE_LAMBDA {
    Ints lanes;
    std::memcpy(&lanes, table.data() + column, sizeof(Ints));
    return lanes - static_cast<Index>(base);
  };
  const Ints low = lanes_of(plan.low), high = lanes_of(plan.high);
  const Vector<Real> weight = load(plan.weight.data() + column);
  unroll<Rows>([&](auto r) USVS_INLINE_LAMBDA {
    const Vector<Real> frames = load(rows + r * plan.frame_stride + base);
    const Vector<Real> at_low = __builtin_shuffle(frames, low);
    const Vector<Real> at_high = __builtin_shuffle(frames, high);
    put<Streaming>(out + r * out_stride + column, at_low + weight * (at_high - at_low));
  });
}

template <typename Real, typename Output>
void resize_one_by_one(const SpectrogramPlan<Real>& plan, int64_t begin, int64_t end,
                       const Real* row, Output* out) {
  for (int64_t column = begin; column < end; ++column) {
    const Real low = row[plan.low[column]], high = row[plan.high[column]];
    put_one(out + column, low + plan.weight[column] * (high - low));
  }
}

template <int Rows, bool Streaming, typename Real, typename Output>
void write_bands(const SpectrogramPlan<Real>& plan, int64_t tile_index, const Real* power, Real eps,
                 Real* rows, Output* out, int64_t out_stride) {
  constexpr int64_t lanes = kLanes<Real>;
  const SpectrogramTile& tile = plan.tiles[tile_index];
  for (int r = 0; r < Rows; ++r) {
    log_row(power + r * plan.frame_stride, tile.frames, eps, rows + r * plan.frame_stride);
  }
  const int32_t* base = plan.register_base.data() + plan.tile_base[tile_index];
  for (int64_t column = tile.column_begin; column < tile.column_end; column += lanes, ++base) {
    const bool whole = column + lanes <= tile.column_end;
    const int64_t end = whole ? column + lanes : tile.column_end;
    if (*base >= 0 && whole) {
      resize_in_register<Rows, Streaming>(plan, *base, column, rows, out, out_stride);
      continue;
    }
    for (int r = 0; r < Rows; ++r) {
      resize_one_by_one(plan, column, end, rows + r * plan.frame_stride, out + r * out_stride);
    }
  }
}

// All bands of a tile.
template <typename Real, typename Output>
void write_tile(const LogSpectrogramParams<Real>& params, const SpectrogramPlan<Real>& plan,
                int64_t clip, int64_t tile_index, bool streaming,
                const SpectrogramScratch<Real>& scratch) {
  constexpr int64_t step = kLanes<Real> * sizeof(Output);
  Output* out = static_cast<Output*>(params.output) + clip * params.bands() * params.frames;
  const int64_t column = plan.tiles[tile_index].column_begin;
  const bool aligned = reinterpret_cast<uintptr_t>(out + column) % step == 0 &&
                       params.frames * sizeof(Output) % step == 0;
  const auto write = streaming && aligned ? write_bands<4, true, Real, Output>
                                          : write_bands<4, false, Real, Output>;
  for (int64_t band = 0; band < params.bands(); band += 4) {  // bands are a power of two from 32
    write(plan, tile_index, scratch.power + band * plan.frame_stride, Real(params.eps),
          scratch.rows, out + band * params.frames, params.frames);
  }
  if (streaming) finish_streaming();
}

}  // namespace usvs::cpu::USVS_LEVEL
