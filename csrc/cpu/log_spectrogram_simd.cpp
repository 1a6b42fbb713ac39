// The log-spectrogram at one SIMD level; this file is compiled once for each level.
#include "cpu/log_spectrogram_simd.h"

#include "cpu/spectrogram_bands.h"
#include "cpu/spectrogram_gradient.h"

namespace usvs::cpu::USVS_LEVEL {
namespace {

template <typename Real>
size_t forward_bytes(const LogSpectrogramInputs<Real>& params, const SpectrogramPlan<Real>& plan) {
  ScratchAllocator allocator(nullptr);
  allocate_scratch(params, plan, allocator);
  return allocator.bytes();
}

// A struct, not a lambda: a lambda would be a new type for every type of result, each with its own
// copy of the transforms.
template <typename Real>
struct StorePower {
  Real* power;  // [bands, lanes]
  USVS_INLINE void operator()(int64_t band, Complex<Vector<Real>> x) const {
    store(power + band * kLanes<Real>, x.re * x.re + x.im * x.im);
  }
};

template <typename Real, typename Output>
void forward_into(const LogSpectrogramForwardParams<Real>& params,
                  const SpectrogramPlan<Real>& plan, int64_t clip, int64_t tile_index,
                  bool streaming, void* memory) {
  const SpectrogramTile& tile = plan.tiles[tile_index];
  ScratchAllocator allocator(memory);
  const SpectrogramScratch<Real> scratch = allocate_scratch(params, plan, allocator);
  TileWriter<Real, Output> writer(params, plan, tile, clip, streaming, scratch);
  for_each_step(params, plan, tile, params.clip(clip), scratch, [&](int64_t t) {
    transform_frames(plan, scratch.blocks + t, scratch.stage, StorePower<Real>{writer.power()});
    writer.write_step();
  });
}

// Computes one tile of one clip.
template <typename Real>
void forward(const LogSpectrogramForwardParams<Real>& params, const SpectrogramPlan<Real>& plan,
             int64_t clip, int64_t tile, bool streaming, void* memory) {
  if constexpr (std::is_same_v<Real, float>) {
    if (params.bfloat16_output) {
      return forward_into<Real, BFloat16>(params, plan, clip, tile, streaming, memory);
    }
  }
  forward_into<Real, Real>(params, plan, clip, tile, streaming, memory);
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
