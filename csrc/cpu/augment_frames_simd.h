// What every SIMD level offers to augment_frames.
#pragma once
#include <cstddef>

#include "augment_frames.h"

namespace usvs::cpu {

struct VaryFramesLevel {
  // Bytes of scratch memory that one call needs, 64-byte aligned.
  size_t (*bytes)(const VaryFramesParams&);
  void (*vary)(const VaryFramesParams&, int64_t frame, void* scratch);
};

namespace portable {
extern const VaryFramesLevel frames_level;
}
namespace avx2 {
extern const VaryFramesLevel frames_level;
}
namespace avx512 {
extern const VaryFramesLevel frames_level;
}

}  // namespace usvs::cpu
