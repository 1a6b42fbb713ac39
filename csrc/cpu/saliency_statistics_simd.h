// The functions that every SIMD level provides for the saliency scores.
#pragma once
#include "saliency_statistics.h"

namespace usvs::cpu {

struct SaliencyLevel {
  double (*pair)(const PairScoreParams&, int64_t map);
  // Moments of one map: mean, sum of squared distances from it, and whether all pixels are equal.
  void (*moments)(const float* values, int64_t pixels, double* mean, double* squares,
                  bool* constant);
  // Numbers of values above a threshold and equal to it.
  void (*count)(const float* values, int64_t pixels, float threshold, int64_t* above,
                int64_t* equal);
};

namespace portable {
extern const SaliencyLevel saliency_level;
}
namespace avx2 {
extern const SaliencyLevel saliency_level;
}
namespace avx512 {
extern const SaliencyLevel saliency_level;
}

}  // namespace usvs::cpu
