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
  const SpectrogramTile& tile = plan.tiles[tile_index];
  Carver carver(memory);
  const SpectrogramScratch<Real> scratch = lay_out(params, plan, carver);
  transform_tile(params, plan, tile, params.clip(clip), scratch, [&](int64_t t) USVS_INLINE_LAMBDA {
    second_stage(plan, scratch.stage,
                 [&](int64_t band, Complex<Vector<Real>> x) USVS_INLINE_LAMBDA {
                   store(scratch.power + band * plan.frame_stride + t, x.re * x.re + x.im * x.im);
                 });
  });
  if constexpr (std::is_same_v<Real, float>) {
    if (params.bfloat16_output) {
      return write_tile<Real, BFloat16>(params, plan, clip, tile_index, streaming, scratch);
    }
  }
  write_tile<Real, Real>(params, plan, clip, tile_index, streaming, scratch);
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
