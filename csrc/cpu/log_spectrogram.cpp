// log_spectrogram on the CPU: chooses the SIMD level, gets the plan, distributes tiles to threads.
#include "log_spectrogram.h"

#include <algorithm>

#include "cpu/log_spectrogram_simd.h"
#include "cpu/scratch.h"
#include "cpu/simd_level.h"

namespace usvs::cpu {
namespace {

// Results above this size are written with non-temporal stores, since they do not fit into the
// caches.
constexpr int64_t kStreamingBytes = 8 << 20;

const LogSpectrogramLevel<float>& level_for(float) {
  return choose_level(USVS_LEVELS(spectrogram_float), USVS_AVX512_BF16_ENTRY(spectrogram_float));
}

const LogSpectrogramLevel<double>& level_for(double) { return portable::spectrogram_double; }

}  // namespace

template <typename Real>
void log_spectrogram_forward(const LogSpectrogramForwardParams<Real>& params,
                             const Threads& threads) {
  if (params.clips == 0) return;  // the plan has a row for each column, of which there may be many
  const auto& level = level_for(Real{});
  const auto plan = spectrogram_plan(params, level.lanes);
  const int64_t tiles = plan->tiles.size();
  const size_t bytes = level.forward_bytes(params, *plan);
  const int64_t element_bytes = params.bfloat16_output ? sizeof(BFloat16) : sizeof(Real);
  const bool streaming =
      params.clips * params.bands() * params.frames * element_bytes > kStreamingBytes;
  if (streaming) {
    prefer_large_pages(params.output,
                       params.clips * params.bands() * params.frames * element_bytes);
  }
  threads.for_each(params.clips * tiles, [&](int64_t task) {
    void* scratch = task_scratch().reserve(bytes);
    level.forward(params, *plan, task / tiles, task % tiles, streaming, scratch);
  });
}

namespace {

// Adds the gradients of the clips of a recording to the samples that they were read from, in the
// order of the clips; no two tasks write the same sample.
template <typename Real>
void add_pieces(const LogSpectrogramBackwardParams<Real>& params, const Real* pieces,
                const Threads& threads) {
  constexpr int64_t slice = 1 << 16;
  threads.for_each((params.recording_samples + slice - 1) / slice, [&](int64_t task) {
    const int64_t begin = task * slice, end = std::min(begin + slice, params.recording_samples);
    std::fill(params.waveform_grad + begin, params.waveform_grad + end, Real(0));
    for (int64_t clip = 0; clip < params.clips; ++clip) {
      const int64_t start = params.offsets[clip];
      const Real* piece = pieces + clip * params.samples;
      for (int64_t i = std::max(begin, start); i < std::min(end, start + params.samples); ++i) {
        params.waveform_grad[i] += piece[i - start];
      }
    }
  });
}

}  // namespace

template <typename Real>
void log_spectrogram_backward(const LogSpectrogramBackwardParams<Real>& params,
                              const Threads& threads) {
  if (params.clips == 0) {
    std::fill_n(params.waveform_grad, params.recording_samples, Real(0));
    return;
  }
  const auto& level = level_for(Real{});
  const auto plan = spectrogram_plan(params, level.lanes);
  const size_t bytes = level.backward_bytes(params, *plan);
  Real* grads = params.waveform_grad;
  if (params.is_recording()) {
    grads =
        static_cast<Real*>(call_scratch().reserve(params.clips * params.samples * sizeof(Real)));
  }
  threads.for_each(params.clips, [&](int64_t clip) {
    level.backward(params, *plan, clip, grads + clip * params.samples,
                   task_scratch().reserve(bytes));
  });
  if (params.is_recording()) add_pieces(params, grads, threads);
}

template void log_spectrogram_forward(const LogSpectrogramForwardParams<float>&, const Threads&);
template void log_spectrogram_forward(const LogSpectrogramForwardParams<double>&, const Threads&);
template void log_spectrogram_backward(const LogSpectrogramBackwardParams<float>&, const Threads&);
template void log_spectrogram_backward(const LogSpectrogramBackwardParams<double>&, const Threads&);

}  // namespace usvs::cpu
