// augment_frames on the CPU: chooses the SIMD level.
#include "augment_frames.h"

#include "cpu/augment_frames_simd.h"
#include "cpu/scratch.h"
#include "cpu/simd_level.h"

namespace usvs::cpu {
namespace {

const AugmentFramesLevel& level_in_use() { return choose_level(USVS_LEVELS(augment_level)); }

}  // namespace

void augment_frames(const AugmentFramesParams& params) {
  const AugmentFramesLevel& level = level_in_use();
  void* scratch = task_scratch().reserve(level.bytes(params));
  for (int64_t frame = 0; frame < params.count; ++frame) level.augment(params, frame, scratch);
}

}  // namespace usvs::cpu
