// From samples to spectra, `lanes` frames at a time, one in each lane.
#pragma once
#include "cpu/dft.h"
#include "cpu/scratch_allocator.h"
#include "cpu/spectrogram_plan.h"

namespace usvs::cpu::USVS_LEVEL {

// Scratch memory of one tile.
template <typename Real>
struct SpectrogramScratch {
  Real* segment;   // [lanes, block padded] samples of several hops, reflected outside the clip
  Real* blocks;    // [block padded, block_stride] transposed: hops are neighbours in a row
  Real* stage;     // [R1 / 2 + 1, kStageRow] results of stage one
  Real* bands[3];  // [bands, lanes] power or its logarithm, of three steps
};

// Elements between the rows of stage one: an odd number of vectors, so that rows are in different
// cache sets.
template <typename Real, int R2>
inline constexpr int64_t kStageRow = (2 * R2 + 1) * kLanes<Real>;

template <typename Real>
int64_t padded_block(const SpectrogramPlan<Real>& plan) {
  return (plan.block + kLanes<Real> - 1) / kLanes<Real> * kLanes<Real>;
}

template <typename Real>
SpectrogramScratch<Real> allocate_scratch(const LogSpectrogramInputs<Real>& params,
                                          const SpectrogramPlan<Real>& plan,
                                          ScratchAllocator& allocator) {
  constexpr int64_t lanes = kLanes<Real>;
  return {
      allocator.allocate<Real>(lanes * padded_block(plan)),
      allocator.allocate<Real>(padded_block(plan) * plan.block_stride),
      allocator.allocate<Real>((plan.first_stage / 2 + 1) * (2 * plan.second_stage + 1) * lanes),
      {allocator.allocate<Real>(params.bands() * lanes),
       allocator.allocate<Real>(params.bands() * lanes),
       allocator.allocate<Real>(params.bands() * lanes)}};
}

USVS_INLINE int64_t reflected(int64_t sample, int64_t samples) {
  if (sample < 0) return -sample;
  return sample < samples ? sample : 2 * (samples - 1) - sample;
}

// Copies the hops [first, first + lanes) of a tile; zeros behind its last.
template <typename Real>
void copy_segment(const LogSpectrogramInputs<Real>& params, const SpectrogramPlan<Real>& plan,
                  const SpectrogramTile& tile, int64_t first, const Real* clip, Real* segment) {
  const int64_t padded = padded_block(plan), filled = tile.frames + plan.overlap_hops;
  for (int64_t b = first; b < first + kLanes<Real>; ++b, segment += padded) {
    const int64_t start = (tile.frame_begin + b) * params.hop_length + plan.lead;
    if (b >= filled) {
      fill_zero(segment, padded);
    } else if (start >= 0 && start + padded <= params.samples) {
      std::memcpy(segment, clip + start, padded * sizeof(Real));
    } else {
      for (int64_t i = 0; i < padded; ++i) {
        // The last block may reach behind the last window, where even the reflected index is
        // outside the clip.
        const int64_t from = reflected(start + i, params.samples);
        segment[i] = from >= 0 && from < params.samples ? clip[from] : Real(0);
      }
    }
  }
}

// Transposes the hops [first, first + lanes) of a tile into `blocks`.
template <typename Real>
void transpose_blocks(const LogSpectrogramInputs<Real>& params, const SpectrogramPlan<Real>& plan,
                      const SpectrogramTile& tile, int64_t first, const Real* clip,
                      const SpectrogramScratch<Real>& scratch) {
  constexpr int64_t lanes = kLanes<Real>;
  const int64_t padded = padded_block(plan);
  const int64_t start = (tile.frame_begin + first) * params.hop_length + plan.lead;
  const int64_t last = start + (lanes - 1) * params.hop_length;
  const Real* from = clip + start;
  int64_t stride = params.hop_length;
  if (start < 0 || last + padded > params.samples ||
      first + lanes > tile.frames + plan.overlap_hops) {
    copy_segment(params, plan, tile, first, clip, scratch.segment);
    from = scratch.segment;
    stride = padded;
  }
  for (int64_t i = 0; i < padded; i += lanes) {
    transpose_square(from + i, stride, scratch.blocks + i * plan.block_stride + first,
                     plan.block_stride);
  }
}

// Stage one: transforms R1 real points, of which the first `Points` can differ from zero, for every
// n2.
template <typename Real, int R1, int R2, int Points>
void stage_one(const SpectrogramPlan<Real>& plan, const Real* blocks, Real* stage) {
  constexpr int64_t lanes = kLanes<Real>, row = kStageRow<Real, R2>;
  const int32_t* sample_index = plan.sample_index.data();
  const Real* weight = plan.weight_in_window.data();
  for (int64_t n2 = 0; n2 < R2; ++n2, sample_index += Points, weight += Points) {
    Vector<Real> points[Points];
    unroll<Points>(
        [&](auto m) USVS_INLINE_LAMBDA { points[m] = load(blocks + sample_index[m]) * weight[m]; });
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

// Stage two: the transform over n2 for every k1. Calls put(band, value); band 0 is bin 1, bin 0 is
// dropped. Calls put.pause() between transforms.
template <typename Real, int R1, int R2, typename Put>
USVS_INLINE void stage_two(const SpectrogramPlan<Real>& plan, const Real* stage, const Put& put) {
  constexpr int64_t lanes = kLanes<Real>, row = kStageRow<Real, R2>;
  constexpr int64_t first = R1, n = R1 * R2;
  using C = Complex<Vector<Real>>;
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
    put.pause();
  }
  Vector<Real> a[R2];
  unroll<R2>([&](auto n2) USVS_INLINE_LAMBDA { a[n2] = load(stage + n2 * 2 * lanes); });
  real_dft<R2, R2, Real>(
      a, [&](int bin, C value) USVS_INLINE_LAMBDA { put(first * bin - 1, value); },
      [&](int bin, Vector<Real> value) USVS_INLINE_LAMBDA {
        if (bin > 0) put(first * bin - 1, C{value, Vector<Real>{}});
      });
  // k1 = R1 / 2: real points multiplied by w_(2 R2)^n2 are the odd bins of a transform of twice the
  // length whose second half is zero.
  const Real* middle = stage + first / 2 * row;
  unroll<R2>([&](auto n2) USVS_INLINE_LAMBDA { a[n2] = load(middle + n2 * 2 * lanes); });
  odd_bins<2 * R2, R2, Real>(
      a, [&](int bin, C value) USVS_INLINE_LAMBDA { put(first / 2 * bin - 1, value); });
}

template <typename Real, int R1, int R2, typename Put>
__attribute__((noinline)) void both_stages(const SpectrogramPlan<Real>& plan, const Real* blocks,
                                           Real* stage, const Put& put) {
  if (plan.half_window) {
    stage_one<Real, R1, R2, R1 / 2>(plan, blocks, stage);
  } else {
    stage_one<Real, R1, R2, R1>(plan, blocks, stage);
  }
  stage_two<Real, R1, R2>(plan, stage, put);
}

// Transforms `lanes` frames, whose blocks start at `blocks`. Calls put(band, value) for each, and
// put.pause() now and then.
template <typename Real, typename Put>
void transform_frames(const SpectrogramPlan<Real>& plan, const Real* blocks, Real* stage,
                      const Put& put) {
  switch (plan.first_stage * plan.second_stage) {
    case 64:
      return both_stages<Real, 8, 8>(plan, blocks, stage, put);
    case 128:
      return both_stages<Real, 16, 8>(plan, blocks, stage, put);
    case 256:
      return both_stages<Real, 16, 16>(plan, blocks, stage, put);
    case 512:
      return both_stages<Real, 32, 16>(plan, blocks, stage, put);
    case 1024:
      return both_stages<Real, 32, 32>(plan, blocks, stage, put);
    case 2048:
      return both_stages<Real, 64, 32>(plan, blocks, stage, put);
    default:
      return both_stages<Real, 64, 64>(plan, blocks, stage, put);
  }
}

// Calls step(t) when the blocks of frames t ... t + lanes - 1 of the tile are in scratch.blocks.
template <typename Real, typename Step>
USVS_INLINE void for_each_step(const LogSpectrogramInputs<Real>& params,
                               const SpectrogramPlan<Real>& plan, const SpectrogramTile& tile,
                               const Real* clip, const SpectrogramScratch<Real>& scratch,
                               const Step& step) {
  constexpr int64_t lanes = kLanes<Real>;
  const int64_t last = plan.block_stride - lanes;  // position of the vector of zeros
  for (int64_t i = 0; i < plan.block; ++i) {
    store(scratch.blocks + i * plan.block_stride + last, Vector<Real>{});
  }
  int64_t ready = 0;
  for (int64_t t = 0; t < tile.frames; t += lanes) {
    for (; ready < last && ready < t + lanes + plan.overlap_hops; ready += lanes) {
      transpose_blocks(params, plan, tile, ready, clip, scratch);
    }
    step(t);
  }
}

}  // namespace usvs::cpu::USVS_LEVEL
