// Batch norm on the CPU: divides the maps into groups of pixels, and adds up what they give.
#include "batch_norm.h"

#include <algorithm>
#include <vector>

#include "cpu/batch_norm_simd.h"
#include "cpu/scratch.h"
#include "cpu/simd_level.h"

namespace usvs::cpu {
namespace {

constexpr int64_t kGroupElements = 1 << 16;

const BatchNormLevel& level_in_use() {
  return choose_level<BatchNormLevel>(USVS_LEVELS(batch_norm_level),
                                      USVS_AVX512_BF16_ENTRY(batch_norm_level));
}

// Division by size alone, so that the bits do not depend on the number of threads.
struct Groups {
  Groups(const MapShape& shape, bool by_image) : shape(shape) {
    rows = by_image ? shape.pixels
                    : std::max<int64_t>(64, kGroupElements / std::max<int64_t>(1, shape.channels));
    rows = std::clamp<int64_t>(rows, 1, std::max<int64_t>(1, shape.rows()));
    count = (shape.rows() + rows - 1) / rows;
  }
  NormGroup group(int64_t index) const {
    return {shape.type, std::min(rows, shape.rows() - index * rows), shape.channels};
  }
  template <typename Pointer>
  Pointer at(Pointer maps, int64_t index) const {
    if (!maps) return maps;
    using Bytes =
        std::conditional_t<std::is_const_v<std::remove_pointer_t<Pointer>>, const char*, char*>;
    const int64_t size = shape.type == MapType::bfloat16  ? 2
                         : shape.type == MapType::float32 ? 4
                                                          : 8;
    return static_cast<Bytes>(maps) + index * rows * shape.channels * size;
  }

  MapShape shape;
  int64_t rows;   // of a group
  int64_t count;  // of groups
};

void* scratch_of(const BatchNormLevel& level, const NormGroup& group) {
  return task_scratch().reserve(level.bytes(group));
}

// Scale and offset [N or 1, C] by which an element is normalised and gated.
struct Affine {
  Affine(const NormCoefficients& norm, const MapShape& shape)
      : channels(shape.channels), rows(norm.gate ? shape.images : 1) {
    scale.resize(rows * channels);
    offset.resize(rows * channels);
    for (int64_t n = 0; n < rows; ++n) {
      for (int64_t c = 0; c < channels; ++c) {
        const double gate = norm.gate ? norm.gate[n * channels + c] : 1.0;
        const double each = norm.weight[c] * norm.inverse[c];
        scale[n * channels + c] = gate * each;
        offset[n * channels + c] = gate * (norm.bias[c] - norm.mean[c] * each);
      }
    }
  }
  int64_t row(int64_t group) const { return rows > 1 ? group * channels : 0; }

  int64_t channels, rows;
  std::vector<double> scale, offset;
};

}  // namespace

void norm_moments(const NormMomentsParams& params, const Threads& threads) {
  const BatchNormLevel& level = level_in_use();
  const Groups groups(params.shape, params.image_mean != nullptr);
  const int64_t channels = params.shape.channels;
  std::vector<double> own_means(params.image_mean ? 0 : groups.count * channels);
  std::vector<double> squares(groups.count * channels);
  double* means = params.image_mean ? params.image_mean : own_means.data();
  threads.for_each(groups.count, [&](int64_t index) {
    const NormGroup group = groups.group(index);
    level.moments(group, groups.at(params.maps, index), means + index * channels,
                  squares.data() + index * channels, scratch_of(level, group));
  });
  std::fill(params.mean, params.mean + channels, 0.0);
  std::fill(params.variance, params.variance + channels, 0.0);
  double counted = 0;
  for (int64_t index = 0; index < groups.count; ++index) {
    const double count = static_cast<double>(groups.group(index).rows), total = counted + count;
    for (int64_t c = 0; c < channels; ++c) {
      const double difference = means[index * channels + c] - params.mean[c];
      params.mean[c] += difference * (count / total);
      params.variance[c] +=
          squares[index * channels + c] + difference * difference * (counted * (count / total));
    }
    counted = total;
  }
  for (int64_t c = 0; c < channels; ++c) params.variance[c] /= std::max(1.0, counted);
}

void norm_apply(const NormApplyParams& params, const Threads& threads) {
  const BatchNormLevel& level = level_in_use();
  const Groups groups(params.shape, params.norm.gate != nullptr);
  const Affine affine(params.norm, params.shape);
  threads.for_each(groups.count, [&](int64_t index) {
    const NormGroup group = groups.group(index);
    level.apply(group, groups.at(params.maps, index), groups.at(params.residual, index),
                groups.at(params.output, index), affine.scale.data() + affine.row(index),
                affine.offset.data() + affine.row(index), params.relu, scratch_of(level, group));
  });
}

void norm_sums(const NormSumsParams& params, const Threads& threads) {
  const BatchNormLevel& level = level_in_use();
  const bool by_image = params.norm.gate != nullptr;
  const Groups groups(params.shape, by_image);
  const Affine affine(params.norm, params.shape);
  const int64_t channels = params.shape.channels;
  std::vector<double> parts(by_image ? 0 : 2 * groups.count * channels);
  double* sums = by_image ? params.sum : parts.data();
  double* products = by_image ? params.product : parts.data() + groups.count * channels;
  threads.for_each(groups.count, [&](int64_t index) {
    const NormGroup group = groups.group(index);
    double* product = products + index * channels;
    level.sums(group, groups.at(params.grad, index), groups.at(params.maps, index),
               groups.at(params.output, index), groups.at(params.masked, index),
               affine.scale.data() + affine.row(index), affine.offset.data() + affine.row(index),
               params.norm.mean, params.relu, sums + index * channels, product,
               scratch_of(level, group));
    for (int64_t c = 0; c < channels; ++c) product[c] *= params.norm.inverse[c];
  });
  if (by_image) return;
  std::fill(params.sum, params.sum + channels, 0.0);
  std::fill(params.product, params.product + channels, 0.0);
  for (int64_t index = 0; index < groups.count; ++index) {
    for (int64_t c = 0; c < channels; ++c) {
      params.sum[c] += sums[index * channels + c];
      params.product[c] += products[index * channels + c];
    }
  }
}

void norm_gradient(const NormGradientParams& params, const Threads& threads) {
  const BatchNormLevel& level = level_in_use();
  const bool by_image = params.norm.gate != nullptr;
  const Groups groups(params.shape, by_image);
  const Affine affine(params.norm, params.shape);
  const NormCoefficients& norm = params.norm;
  const int64_t channels = params.shape.channels;
  std::vector<double> slope(channels), constant(affine.rows * channels);
  for (int64_t c = 0; c < channels; ++c) {
    const double each = norm.weight[c] * norm.inverse[c];
    slope[c] = -each * norm.inverse[c] * params.mean_product[c];
    for (int64_t n = 0; n < affine.rows; ++n) {
      const double pooled =
          params.pooled ? params.pooled[n * channels + c] / params.shape.pixels : 0.0;
      constant[n * channels + c] = each * (pooled - params.mean_sum[c]) - slope[c] * norm.mean[c];
    }
  }
  threads.for_each(groups.count, [&](int64_t index) {
    const NormGroup group = groups.group(index);
    const double* scale = affine.scale.data() + affine.row(index);
    level.gradient(group, groups.at(params.grad, index), groups.at(params.maps, index),
                   groups.at(params.maps_grad, index), scale,
                   affine.offset.data() + affine.row(index), params.relu, scale, slope.data(),
                   constant.data() + affine.row(index), scratch_of(level, group));
  });
}

}  // namespace usvs::cpu
