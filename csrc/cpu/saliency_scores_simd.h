// What every SIMD level offers to the saliency scores.
#pragma once
#include "saliency_scores.h"

namespace usvs::cpu {

struct SaliencyLevel {
  double (*pair)(const PairScoreParams&, int64_t map);
  // Moments of one map: mean, sum of squared distances from it, and whether it is constant.
  void (*moments)(const float* values, int64_t pixels, double* mean, double* squares,
                  bool* constant);
  // How many values lie above a threshold, and how many equal it.
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
