// The log-spectrogram at one SIMD level; compiled once for each.
#include "cpu/log_spectrogram_simd.h"

#include "cpu/spectrogram_bands.h"
#include "cpu/spectrogram_gradient.h"

namespace usvs::cpu::USVS_LEVEL {
namespace {

template <typename Real>
size_t forward_bytes(const LogSpectrogramParams<Real>& params, const SpectrogramPlan<Real>& plan) {
  Carver carver(nullptr);
  lay_out(params, plan, carver);
  return carver.bytes();
}

template <typename Real>
void forward(const LogSpectrogramParams<Real>& params, const SpectrogramPlan<Real>& plan,
             int64_t clip, int64_t tile_index, bool streaming, void* memory) {
  constexpr int64_t lanes = kLanes<Real>;
  const SpectrogramTile& tile = plan.tiles[tile_index];
  Carver carver(memory);
  const SpectrogramScratch<Real> scratch = lay_out(params, plan, carver);
  transform_tile(params, plan, tile, params.waveform + clip * params.waveform_stride, scratch,
                 [&](int64_t t) USVS_INLINE_LAMBDA {
                   second_stage(plan, scratch.stage,
                                [&](int64_t band, Complex<Vector<Real>> x) USVS_INLINE_LAMBDA {
                                  store(scratch.power + band * plan.frame_stride + t,
                                        x.re * x.re + x.im * x.im);
                                });
                 });
  const bool aligned = reinterpret_cast<uintptr_t>(params.output) % kVectorBytes == 0 &&
                       params.frames % lanes == 0 && tile.column_begin % lanes == 0;
  const auto write =
      streaming && aligned ? write_bands<4, true, Real> : write_bands<4, false, Real>;
  for (int64_t band = 0; band < params.bands(); band += 4) {  // bands are a power of two from 32
    write(plan, tile_index, scratch.power + band * plan.frame_stride, Real(params.eps),
          scratch.rows, params.output + (clip * params.bands() + band) * params.frames,
          params.frames);
  }
  if (streaming) finish_streaming();
}

}  // namespace

const LogSpectrogramLevel<float> spectrogram_float{
    kLanes<float>, forward_bytes<float>, backward_bytes<float>, forward<float>, backward<float>};
#ifdef USVS_DOUBLE_SPECTROGRAM
const LogSpectrogramLevel<double> spectrogram_double{kLanes<double>, forward_bytes<double>,
                                                     backward_bytes<double>, forward<double>,
                                                     backward<double>};
#endif

}  // namespace usvs::cpu::USVS_LEVEL
