// The functions that every SIMD level provides for the log-spectrogram.
#pragma once
#include <cstddef>

#include "cpu/spectrogram_plan.h"

namespace usvs::cpu {

template <typename Real>
struct LogSpectrogramLevel {
  int64_t lanes;
  // Bytes of scratch memory for one call, 64-byte aligned.
  size_t (*forward_bytes)(const LogSpectrogramInputs<Real>&, const SpectrogramPlan<Real>&);
  size_t (*backward_bytes)(const LogSpectrogramInputs<Real>&, const SpectrogramPlan<Real>&);
  // Computes one tile of one clip. streaming: the result is written with non-temporal stores.
  void (*forward)(const LogSpectrogramForwardParams<Real>&, const SpectrogramPlan<Real>&,
                  int64_t clip, int64_t tile, bool streaming, void* scratch);
  // Computes the gradient of one clip, clip_grad [S].
  void (*backward)(const LogSpectrogramBackwardParams<Real>&, const SpectrogramPlan<Real>&,
                   int64_t clip, Real* clip_grad, void* scratch);
};

namespace portable {
extern const LogSpectrogramLevel<float> spectrogram_float;
// float64 serves as a check, so one level is enough; more would double the compile time.
extern const LogSpectrogramLevel<double> spectrogram_double;
}  // namespace portable
namespace avx2 {
extern const LogSpectrogramLevel<float> spectrogram_float;
}
namespace avx512 {
extern const LogSpectrogramLevel<float> spectrogram_float;
}
namespace avx512_bf16 {
extern const LogSpectrogramLevel<float> spectrogram_float;
}

}  // namespace usvs::cpu
