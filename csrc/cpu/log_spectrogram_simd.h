// What every SIMD level offers, and what it is given.
#pragma once
#include <cstddef>

#include "cpu/spectrogram_plan.h"

namespace usvs::cpu {

template <typename Real>
struct LogSpectrogramLevel {
  int64_t lanes;
  // Bytes of scratch memory that one call needs, 64-byte aligned.
  size_t (*forward_bytes)(const LogSpectrogramParams<Real>&, const SpectrogramPlan<Real>&);
  size_t (*backward_bytes)(const LogSpectrogramParams<Real>&, const SpectrogramPlan<Real>&);
  // One tile of one clip. Streaming: the result goes past the caches.
  void (*forward)(const LogSpectrogramParams<Real>&, const SpectrogramPlan<Real>&, int64_t clip,
                  int64_t tile, bool streaming, void* scratch);
  // One whole clip, whose gradient goes to clip_grad [S].
  void (*backward)(const LogSpectrogramParams<Real>&, const SpectrogramPlan<Real>&, int64_t clip,
                   Real* clip_grad, void* scratch);
};

namespace portable {
extern const LogSpectrogramLevel<float> spectrogram_float;
// float64 is there to check with, so one level of it is enough; it would double the time to
// compile.
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
