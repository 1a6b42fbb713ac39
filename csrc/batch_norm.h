// The batch_norm ops: batch norm with what follows it in a residual block.
//
//   output = relu(normalised(maps) * gate + residual)
//
// Maps are channels-last: N images of P pixels of C channels. `Groups` of pixels are the unit of
// work and of partial sums: images where each has a gate, otherwise as many pixels as fill a cache.
#pragma once
#include <cstdint>

#include "threads.h"

namespace usvs {

enum class MapType { float32, bfloat16, float64 };

struct MapShape {
  int64_t images;
  int64_t pixels;  // of an image
  int64_t channels;
  MapType type;

  int64_t rows() const { return images * pixels; }
  int64_t elements() const { return rows() * channels; }
};

// What every pass needs to normalise an element.
struct NormCoefficients {
  const double* mean;     // [C]
  const double* inverse;  // [C], 1 / standard deviation
  const double* weight;   // [C]
  const double* bias;     // [C]
  const double* gate;     // [N, C]; null: 1
};

struct NormMomentsParams {
  MapShape shape;
  const void* maps;
  double* image_mean;  // [N, C]; null: not needed
  double* mean;        // [C]
  double* variance;    // [C], biased
};

struct NormApplyParams {
  MapShape shape;
  NormCoefficients norm;
  const void* maps;
  const void* residual;  // null: none
  void* output;
  bool relu;
};

// Sums over the pixels of each image (with a gate) or of all images (without).
struct NormSumsParams {
  MapShape shape;
  NormCoefficients norm;
  const void* grad;  // of the output
  const void* maps;
  const void* output;  // read where `masked` is written
  void* masked;        // gradient before the ReLU; null: no ReLU, or it is recomputed from the maps
  bool relu;
  double* sum;      // [N or 1, C], of the gradient before the ReLU
  double* product;  // [N or 1, C], of that times the normalised element
};

struct NormGradientParams {
  MapShape shape;
  NormCoefficients norm;
  const void* grad;  // of the output; `masked` of NormSumsParams where that was written
  const void* maps;
  bool relu;               // to be recomputed
  const double* pooled;    // [N, C], gradient of each image's mean after the norm; null: none
  const double* mean_sum;  // [C], mean over the batch of the gradient of the normalised maps * w
  const double* mean_product;  // [C], the same times the normalised element
  void* maps_grad;
};

namespace cpu {
void norm_moments(const NormMomentsParams& params, const Threads& threads);
void norm_apply(const NormApplyParams& params, const Threads& threads);
void norm_sums(const NormSumsParams& params, const Threads& threads);
void norm_gradient(const NormGradientParams& params, const Threads& threads);
}  // namespace cpu
}  // namespace usvs
