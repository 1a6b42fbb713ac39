// From samples to the power of every bin, `lanes` frames at a time, one in each lane.
#pragma once
#include "cpu/carver.h"
#include "cpu/dft.h"
#include "cpu/spectrogram_plan.h"

namespace usvs::cpu::USVS_LEVEL {

// The scratch memory of one tile.
template <typename Real>
struct SpectrogramScratch {
  Real* segment;  // [blocks, block] samples, reflected where they lie outside of the clip, zeros
                  // behind
  Real* blocks;   // [block, block_stride] the same, transposed: one hop after the other in a row
  Real* stage;    // [R1 / 2 + 1, R2, 2, lanes] what stage one hands to stage two
  Real* power;    // [bands, frame_stride]
  Real* rows;     // [4, frame_stride] logarithms of a few bands
};

template <typename Real>
SpectrogramScratch<Real> lay_out(const LogSpectrogramParams<Real>& params,
                                 const SpectrogramPlan<Real>& plan, Carver& carver) {
  constexpr int64_t lanes = kLanes<Real>;
  const int64_t block_rows = (plan.block + lanes - 1) / lanes * lanes;
  return {carver.take<Real>(plan.block_stride * plan.block + lanes),
          carver.take<Real>(block_rows * plan.block_stride),
          carver.take<Real>((params.n_fft / 2 + plan.second_stage) * 2 * lanes),
          carver.take<Real>(params.bands() * plan.frame_stride),
          carver.take<Real>(4 * plan.frame_stride)};
}

USVS_INLINE int64_t reflected(int64_t sample, int64_t samples) {
  if (sample < 0) return -sample;
  return sample < samples ? sample : 2 * (samples - 1) - sample;
}

template <typename Real>
int64_t tile_blocks(const SpectrogramPlan<Real>& plan, const SpectrogramTile& tile) {
  constexpr int64_t lanes = kLanes<Real>;
  return (tile.frames + plan.overhang + lanes - 1) / lanes * lanes;
}

template <typename Real>
void copy_segment(const LogSpectrogramParams<Real>& params, const SpectrogramPlan<Real>& plan,
                  const SpectrogramTile& tile, const Real* clip, Real* segment) {
  const int64_t blocks = tile_blocks(plan, tile), filled = tile.frames + plan.overhang;
  for (int64_t b = 0; b < blocks; ++b) {
    Real* to = segment + b * plan.block;
    const int64_t start = (tile.frame_begin + b) * params.hop_length + plan.lead;
    if (b < filled && start >= 0 && start + plan.block <= params.samples) {
      std::memcpy(to, clip + start, plan.block * sizeof(Real));
      continue;
    }
    for (int64_t i = 0; i < plan.block; ++i) {
      // The last block may reach further than any window does, and there even further than a
      // reflection.
      const int64_t from = reflected(start + i, params.samples);
      to[i] = b < filled && from >= 0 && from < params.samples ? clip[from] : Real(0);
    }
  }
  std::memset(segment + blocks * plan.block, 0, kVectorBytes);
}

template <typename Real>
void transpose_segment(const SpectrogramPlan<Real>& plan, const SpectrogramTile& tile,
                       const Real* segment, Real* transposed) {
  constexpr int lanes = kLanes<Real>;
  const int64_t blocks = tile_blocks(plan, tile);
  for (int64_t b = 0; b < blocks; b += lanes) {
    for (int64_t i = 0; i < plan.block; i += lanes) {
      Vector<Real> square[lanes];
      for (int r = 0; r < lanes; ++r) square[r] = load(segment + (b + r) * plan.block + i);
      transpose<Real>(square);
      for (int r = 0; r < lanes; ++r)
        store(transposed + (i + r) * plan.block_stride + b, square[r]);
    }
  }
  for (int64_t i = 0; i < plan.block; ++i) {
    fill_zero(transposed + i * plan.block_stride + blocks, plan.block_stride - blocks);
  }
}

// Stage one: R1 real points, of which `Points` can differ from zero, for every n2.
template <typename Real, int R1, int Points>
void stage_one(const SpectrogramPlan<Real>& plan, const Real* blocks, Real* stage) {
  constexpr int lanes = kLanes<Real>;
  const int64_t row = plan.second_stage * 2 * lanes;
  const int32_t* place = plan.place.data();
  const Real* weight = plan.weight_in_window.data();
  for (int64_t n2 = 0; n2 < plan.second_stage; ++n2, place += Points, weight += Points) {
    Vector<Real> points[Points];
    unroll<Points>([&](auto m)
                       USVS_INLINE_LAMBDA { points[m] = load(blocks + place[m]) * weight[m]; });
    Real* out = stage + n2 * 2 * lanes;
    real_dft<R1, Points, Real>(
        points,
        [&](int bin, Complex<Vector<Real>> value) USVS_INLINE_LAMBDA {
          store(out + bin * row, value.re);
          store(out + bin * row + lanes, value.im);
        },
        [&](int bin, Vector<Real> value) USVS_INLINE_LAMBDA { store(out + bin * row, value); });
  }
}

// Stage two: for every k1 the transform over n2. Calls put(band, value), where band 0 is bin 1; bin
// 0 is left out.
template <typename Real, int R2, typename Put>
USVS_INLINE void stage_two(const SpectrogramPlan<Real>& plan, const Real* stage, const Put& put) {
  constexpr int lanes = kLanes<Real>, row = R2 * 2 * lanes;
  using C = Complex<Vector<Real>>;
  const int64_t first = plan.first_stage, n = first * R2;
  for (int64_t k1 = 1; k1 < first / 2; ++k1) {
    const Real* in = stage + k1 * row;
    const Real* w = plan.twiddles.data() + k1 * R2 * 2;
    C x[R2];
    x[0] = {load(in), load(in + lanes)};
    unroll<R2>([&](auto index) USVS_INLINE_LAMBDA {
      constexpr int n2 = decltype(index)::value;
      if constexpr (n2 > 0) {
        const C value{load(in + n2 * 2 * lanes), load(in + (n2 * 2 + 1) * lanes)};
        x[n2] = multiply(value, w[2 * n2], w[2 * n2 + 1]);
      }
    });
    dft<R2, Real>(x);
    unroll<R2>([&](auto index) USVS_INLINE_LAMBDA {
      constexpr int k2 = decltype(index)::value;
      const int64_t bin = k1 + first * k2;
      if constexpr (k2 < R2 / 2) {
        put(bin - 1, x[k2]);
      } else {
        put(n - bin - 1, x[k2].conjugate());
      }
    });
  }
  Vector<Real> a[R2];
  unroll<R2>([&](auto n2) USVS_INLINE_LAMBDA { a[n2] = load(stage + n2 * 2 * lanes); });
  real_dft<R2, R2, Real>(
      a, [&](int bin, C value) USVS_INLINE_LAMBDA { put(first * bin - 1, value); },
      [&](int bin, Vector<Real> value) USVS_INLINE_LAMBDA {
        if (bin > 0) put(first * bin - 1, C{value, Vector<Real>{}});
      });
  // k1 = R1 / 2: real points turned by w_(2 R2)^n2 are the odd bins of a transform twice as long,
  // half of it zeros.
  const Real* middle = stage + first / 2 * row;
  unroll<R2>([&](auto n2) USVS_INLINE_LAMBDA { a[n2] = load(middle + n2 * 2 * lanes); });
  odd_bins<2 * R2, R2, Real>(
      a, [&](int bin, C value) USVS_INLINE_LAMBDA { put(first / 2 * bin - 1, value); });
}

template <typename Real>
void first_stage(const SpectrogramPlan<Real>& plan, const Real* blocks, Real* stage) {
  switch (plan.first_stage * 2 + plan.half_window) {
    case 16:
      return stage_one<Real, 8, 8>(plan, blocks, stage);
    case 17:
      return stage_one<Real, 8, 4>(plan, blocks, stage);
    case 32:
      return stage_one<Real, 16, 16>(plan, blocks, stage);
    case 33:
      return stage_one<Real, 16, 8>(plan, blocks, stage);
    case 64:
      return stage_one<Real, 32, 32>(plan, blocks, stage);
    case 65:
      return stage_one<Real, 32, 16>(plan, blocks, stage);
    case 128:
      return stage_one<Real, 64, 64>(plan, blocks, stage);
    default:
      return stage_one<Real, 64, 32>(plan, blocks, stage);
  }
}

template <typename Real, typename Put>
void second_stage(const SpectrogramPlan<Real>& plan, const Real* stage, const Put& put) {
  switch (plan.second_stage) {
    case 8:
      return stage_two<Real, 8>(plan, stage, put);
    case 16:
      return stage_two<Real, 16>(plan, stage, put);
    case 32:
      return stage_two<Real, 32>(plan, stage, put);
    default:
      return stage_two<Real, 64>(plan, stage, put);
  }
}

// Calls use(t) once scratch.stage holds stage one of frames t ... t + lanes - 1 of the tile.
template <typename Real, typename Use>
void transform_tile(const LogSpectrogramParams<Real>& params, const SpectrogramPlan<Real>& plan,
                    const SpectrogramTile& tile, const Real* clip,
                    const SpectrogramScratch<Real>& scratch, const Use& use) {
  copy_segment(params, plan, tile, clip, scratch.segment);
  transpose_segment(plan, tile, scratch.segment, scratch.blocks);
  for (int64_t t = 0; t < tile.frames; t += kLanes<Real>) {
    first_stage(plan, scratch.blocks + t, scratch.stage);
    use(t);
  }
}

}  // namespace usvs::cpu::USVS_LEVEL
