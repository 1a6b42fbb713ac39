// Which level runs, with which plan, and what one thread does of the work.
#include "log_spectrogram.h"

#include "cpu/log_spectrogram_simd.h"
#include "cpu/scratch.h"
#include "cpu/simd_level.h"

namespace usvs::cpu {
namespace {

// Above this the result is written past the caches, which it would only sweep.
constexpr int64_t kStreamingBytes = 8 << 20;

const LogSpectrogramLevel<float>& level_for(float) {
  switch (simd_level_in_use()) {
#ifdef USVS_WITH_AVX512
    case SimdLevel::avx512:
      return avx512::spectrogram_float;
#endif
#ifdef USVS_WITH_AVX2
    case SimdLevel::avx2:
      return avx2::spectrogram_float;
#endif
    default:
      return portable::spectrogram_float;
  }
}

const LogSpectrogramLevel<double>& level_for(double) { return portable::spectrogram_double; }

}  // namespace

template <typename Real>
void log_spectrogram_forward(const LogSpectrogramParams<Real>& params, const Threads& threads) {
  const auto& level = level_for(Real{});
  const auto plan = spectrogram_plan(params, level.lanes);
  const int64_t tiles = plan->tiles.size();
  const size_t bytes = level.forward_bytes(params, *plan);
  const bool streaming =
      params.clips * params.bands() * params.frames * int64_t{sizeof(Real)} > kStreamingBytes;
  threads.for_each(params.clips * tiles, [&](int64_t task) {
    void* scratch = task_scratch().at_least(bytes);
    level.forward(params, *plan, task / tiles, task % tiles, streaming, scratch);
  });
}

template <typename Real>
void log_spectrogram_backward(const LogSpectrogramParams<Real>& params, const Threads& threads) {
  const auto& level = level_for(Real{});
  const auto plan = spectrogram_plan(params, level.lanes);
  const size_t bytes = level.backward_bytes(params, *plan);
  threads.for_each(params.clips, [&](int64_t clip) {
    level.backward(params, *plan, clip, task_scratch().at_least(bytes));
  });
}

template void log_spectrogram_forward(const LogSpectrogramParams<float>&, const Threads&);
template void log_spectrogram_forward(const LogSpectrogramParams<double>&, const Threads&);
template void log_spectrogram_backward(const LogSpectrogramParams<float>&, const Threads&);
template void log_spectrogram_backward(const LogSpectrogramParams<double>&, const Threads&);

}  // namespace usvs::cpu
