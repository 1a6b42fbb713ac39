// The functions that every SIMD level provides for augment_frames.
#pragma once
#include <cstddef>

#include "augment_frames.h"

namespace usvs::cpu {

struct AugmentFramesLevel {
  // Bytes of scratch memory for one call, 64-byte aligned.
  size_t (*bytes)(const AugmentFramesParams&);
  void (*augment)(const AugmentFramesParams&, int64_t frame, void* scratch);
};

namespace portable {
extern const AugmentFramesLevel augment_level;
}
namespace avx2 {
extern const AugmentFramesLevel augment_level;
}
namespace avx512 {
extern const AugmentFramesLevel augment_level;
}

}  // namespace usvs::cpu
