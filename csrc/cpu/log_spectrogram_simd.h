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
  // One whole clip.
  void (*backward)(const LogSpectrogramParams<Real>&, const SpectrogramPlan<Real>&, int64_t clip,
                   void* scratch);
};

#define USVS_DECLARE_LEVEL(level)                    \
  namespace level {                                  \
  extern const LogSpectrogramLevel<float> spectrogram_float;   \
  extern const LogSpectrogramLevel<double> spectrogram_double; \
  }
USVS_DECLARE_LEVEL(portable)
USVS_DECLARE_LEVEL(avx2)
USVS_DECLARE_LEVEL(avx512)
#undef USVS_DECLARE_LEVEL

}  // namespace usvs::cpu
