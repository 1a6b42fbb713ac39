// The functions that every SIMD level provides for batch norm, on one group of pixels.
#pragma once
#include <cstddef>

#include "batch_norm.h"

namespace usvs::cpu {

// Pixels that follow each other in memory, and their type.
struct NormGroup {
  MapType type;
  int64_t rows;
  int64_t channels;
};

struct BatchNormLevel {
  // Scratch memory of each of the other functions.
  size_t (*bytes)(const NormGroup&);
  // Mean and sum of squared deviations from it, of each channel.
  void (*moments)(const NormGroup&, const void* maps, double* mean, double* squares, void* scratch);
  // output = maps * scale + offset + residual, and its ReLU.
  void (*apply)(const NormGroup&, const void* maps, const void* residual, void* output,
                const double* scale, const double* offset, bool relu, void* scratch);
  // Adds up the gradient before the ReLU, and that times (maps - mean). The ReLU is that of
  // `output`; where that is null and `relu`, of maps * scale + offset.
  void (*sums)(const NormGroup&, const void* grad, const void* maps, const void* output,
               void* masked, const double* scale, const double* offset, const double* mean,
               bool relu, double* sum, double* product, void* scratch);
  // maps_grad = grad * factor + maps * slope + constant, with the gradient before the ReLU.
  void (*gradient)(const NormGroup&, const void* grad, const void* maps, void* maps_grad,
                   const double* scale, const double* offset, bool relu, const double* factor,
                   const double* slope, const double* constant, void* scratch);
};

namespace portable {
extern const BatchNormLevel batch_norm_level;
}
namespace avx2 {
extern const BatchNormLevel batch_norm_level;
}
namespace avx512 {
extern const BatchNormLevel batch_norm_level;
}
namespace avx512_bf16 {
extern const BatchNormLevel batch_norm_level;
}

}  // namespace usvs::cpu
