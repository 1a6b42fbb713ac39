// Batch norm with what follows it, on the CPU only: on a GPU torch's compiler fuses the same.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cmath>
#include <optional>

#include "batch_norm.h"
#include "bindings/checks.h"
#include "bindings/torch_threads.h"

namespace usvs {
namespace {

MapType map_type(const char* op, const Tensor& maps) {
  switch (maps.scalar_type()) {
    case ScalarType::Float:
      return MapType::float32;
    case ScalarType::BFloat16:
      return MapType::bfloat16;
    case ScalarType::Double:
      return MapType::float64;
    default:
      throw_argument_error(op, "maps", "float32, bfloat16 or float64",
                           torch::headeronly::toString(maps.scalar_type()));
  }
}

bool is_channels_last(const Tensor& maps) {
  const int64_t channels = maps.size(1), height = maps.size(2), width = maps.size(3);
  auto steps = [&](int64_t dim, int64_t stride) {
    return maps.size(dim) <= 1 || maps.stride(dim) == stride;
  };
  return steps(1, 1) && steps(3, channels) && steps(2, channels * width) &&
         steps(0, channels * width * height);
}

MapShape check_maps(const char* op, const Tensor& maps) {
  if (maps.dim() != 4 || maps.size(1) < 1) {
    throw_argument_error(op, "maps", "shape [N, C, h, w]", shape_text(maps));
  }
  if (!is_channels_last(maps)) {
    throw_argument_error(op, "maps", "the memory format channels_last", "another one");
  }
  return {maps.size(0), maps.size(2) * maps.size(3), maps.size(1), map_type(op, maps)};
}

// Checks a tensor of the maps' shape, dtype and memory format.
const void* check_like(const char* op, const char* name, const Tensor& tensor, const Tensor& maps) {
  check_sizes(op, name, tensor, sizes_of(maps));
  check_dtype(op, name, tensor, maps.scalar_type());
  if (!is_channels_last(tensor)) {
    throw_argument_error(op, name, "the memory format channels_last", "another one");
  }
  return tensor.const_data_ptr();
}

Tensor new_maps(const Tensor& like) {
  const int64_t channels = like.size(1), width = like.size(3);
  const int64_t strides[] = {channels * width * like.size(2), 1, channels * width, channels};
  return empty_strided(like, like.sizes(), IntHeaderOnlyArrayRef(strides, 4), like.scalar_type());
}

// The values of a float32, bfloat16 or float64 tensor, as float64.
std::vector<double> read_values(const char* op, const char* name, const Tensor& given,
                                const std::vector<int64_t>& sizes) {
  check_sizes(op, name, given, sizes);
  const Tensor tensor = as_contiguous(given);
  std::vector<double> values(tensor.numel());
  if (tensor.scalar_type() == ScalarType::Float) {
    const float* from = static_cast<const float*>(tensor.const_data_ptr());
    std::copy(from, from + values.size(), values.begin());
  } else if (tensor.scalar_type() == ScalarType::Double) {
    const double* from = static_cast<const double*>(tensor.const_data_ptr());
    std::copy(from, from + values.size(), values.begin());
  } else {
    throw_argument_error(op, name, "float32 or float64",
                         torch::headeronly::toString(tensor.scalar_type()));
  }
  return values;
}

// Coefficients of the ops' arguments; holds the arrays that `view` points to.
struct Coefficients {
  Coefficients(const char* op, const MapShape& shape, const Tensor& weight, const Tensor& bias,
               const Tensor& statistics, const std::optional<Tensor>& gate)
      : weight(read_values(op, "weight", weight, {shape.channels})),
        bias(read_values(op, "bias", bias, {shape.channels})),
        statistics(read_values(op, "statistics", statistics, {2, shape.channels})) {
    if (gate) this->gate = read_values(op, "gate", *gate, {shape.images, shape.channels});
    view = {this->statistics.data(), this->statistics.data() + shape.channels, this->weight.data(),
            this->bias.data(), gate ? this->gate.data() : nullptr};
  }

  std::vector<double> weight, bias, statistics, gate;
  NormCoefficients view;
};

// running += momentum * (value - running), for float32 and float64.
void update_running(const char* op, const char* name, Tensor& running,
                    const std::vector<double>& values, double momentum) {
  check_sizes(op, name, running, {static_cast<int64_t>(values.size())});
  auto update = [&](auto* to) {
    for (size_t c = 0; c < values.size(); ++c) to[c] += momentum * (values[c] - to[c]);
  };
  if (!running.is_contiguous())
    throw_argument_error(op, name, "a contiguous tensor", "one with gaps");
  if (running.scalar_type() == ScalarType::Float) {
    update(static_cast<float*>(running.mutable_data_ptr()));
  } else {
    check_dtype(op, name, running, ScalarType::Double);
    update(static_cast<double*>(running.mutable_data_ptr()));
  }
}

// Mean and 1 / standard deviation [2, C]: of the maps, which update the running ones, or the
// running ones.
Tensor make_statistics(const char* op, const MapShape& shape, const Tensor& maps,
                       std::optional<Tensor>& running_mean, std::optional<Tensor>& running_variance,
                       bool training, double momentum, double eps, double* image_mean) {
  std::vector<double> means(shape.channels), variances(shape.channels);
  if (training || image_mean) {
    check_range(op, "values of a channel", shape.rows(), 1, INT64_MAX);
    cpu::norm_moments({shape, maps.const_data_ptr(), image_mean, means.data(), variances.data()},
                      torch_threads);
  }
  if (!training) {
    if (!running_mean || !running_variance) {
      throw_argument_error(op, "running_mean", "running statistics without training", "none");
    }
    means = read_values(op, "running_mean", *running_mean, {shape.channels});
    variances = read_values(op, "running_variance", *running_variance, {shape.channels});
  }
  Tensor statistics = empty(maps, {2, shape.channels}, ScalarType::Double);
  double* mean = static_cast<double*>(statistics.mutable_data_ptr());
  for (int64_t c = 0; c < shape.channels; ++c) {
    mean[c] = means[c];
    mean[shape.channels + c] = 1 / std::sqrt(variances[c] + eps);
  }
  if (training) {
    const double count = static_cast<double>(shape.rows());
    for (double& variance : variances) variance *= count / std::max(1.0, count - 1);  // unbiased
    if (running_mean) update_running(op, "running_mean", *running_mean, means, momentum);
    if (running_variance) {
      update_running(op, "running_variance", *running_variance, variances, momentum);
    }
  }
  return statistics;
}

std::tuple<Tensor, Tensor> batch_norm_moments(Tensor maps, std::optional<Tensor> running_mean,
                                              std::optional<Tensor> running_variance, bool training,
                                              double momentum, double eps) {
  constexpr const char* op = "batch_norm_moments";
  const MapShape shape = check_maps(op, maps);
  Tensor image_mean = empty(maps, {shape.images, shape.channels}, ScalarType::Double);
  Tensor statistics =
      make_statistics(op, shape, maps, running_mean, running_variance, training, momentum, eps,
                      static_cast<double*>(image_mean.mutable_data_ptr()));
  return {statistics, image_mean};
}

Tensor batch_norm_apply(Tensor maps, Tensor weight, Tensor bias, Tensor statistics,
                        std::optional<Tensor> gate, std::optional<Tensor> residual, bool relu) {
  constexpr const char* op = "batch_norm_apply";
  const MapShape shape = check_maps(op, maps);
  const Coefficients norm(op, shape, weight, bias, statistics, gate);
  Tensor output = new_maps(maps);
  cpu::norm_apply({shape, norm.view, maps.const_data_ptr(),
                   residual ? check_like(op, "residual", *residual, maps) : nullptr,
                   output.mutable_data_ptr(), relu},
                  torch_threads);
  return output;
}

std::tuple<Tensor, Tensor> batch_norm_forward(Tensor maps, Tensor weight, Tensor bias,
                                              std::optional<Tensor> running_mean,
                                              std::optional<Tensor> running_variance, bool training,
                                              double momentum, double eps,
                                              std::optional<Tensor> residual, bool relu) {
  constexpr const char* op = "batch_norm_forward";
  const MapShape shape = check_maps(op, maps);
  Tensor statistics = make_statistics(op, shape, maps, running_mean, running_variance, training,
                                      momentum, eps, nullptr);
  Tensor output = batch_norm_apply(maps, weight, bias, statistics, std::nullopt, residual, relu);
  return {output, statistics};
}

std::tuple<Tensor, Tensor> batch_norm_sums(Tensor grad, Tensor maps, std::optional<Tensor> output,
                                           Tensor weight, Tensor bias, Tensor statistics,
                                           std::optional<Tensor> gate, bool relu) {
  constexpr const char* op = "batch_norm_sums";
  const MapShape shape = check_maps(op, maps);
  const Coefficients norm(op, shape, weight, bias, statistics, gate);
  const int64_t rows = gate ? shape.images : 1;
  Tensor sums = empty(maps, {2, rows, shape.channels}, ScalarType::Double);
  Tensor masked = output ? new_maps(maps) : empty(maps, {0}, maps.scalar_type());
  double* first = static_cast<double*>(sums.mutable_data_ptr());
  cpu::norm_sums(
      {shape, norm.view, check_like(op, "grad", grad, maps), maps.const_data_ptr(),
       output ? check_like(op, "output", *output, maps) : nullptr,
       output ? masked.mutable_data_ptr() : nullptr, relu, first, first + rows * shape.channels},
      torch_threads);
  return {sums, masked};
}

Tensor batch_norm_gradient(Tensor grad, Tensor maps, Tensor weight, Tensor bias, Tensor statistics,
                           std::optional<Tensor> gate, std::optional<Tensor> pooled, Tensor sums,
                           bool training, bool relu) {
  constexpr const char* op = "batch_norm_gradient";
  const MapShape shape = check_maps(op, maps);
  const Coefficients norm(op, shape, weight, bias, statistics, gate);
  std::vector<double> means = read_values(op, "sums", sums, {2, shape.channels});
  // Statistics of the batch depend on every pixel, running ones on none.
  for (double& mean : means) mean = training ? mean / static_cast<double>(shape.rows()) : 0;
  std::vector<double> of_pooled;
  if (pooled) {
    if (!gate) throw_argument_error(op, "pooled", "a gate beside it", "none");
    of_pooled = read_values(op, "pooled", *pooled, {shape.images, shape.channels});
  }
  Tensor maps_grad = new_maps(maps);
  cpu::norm_gradient({shape, norm.view, check_like(op, "grad", grad, maps), maps.const_data_ptr(),
                      relu, pooled ? of_pooled.data() : nullptr, means.data(),
                      means.data() + shape.channels, maps_grad.mutable_data_ptr()},
                     torch_threads);
  return maps_grad;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> batch_norm_backward(Tensor grad, Tensor maps,
                                                               std::optional<Tensor> output,
                                                               Tensor weight, Tensor bias,
                                                               Tensor statistics, bool training,
                                                               bool relu) {
  auto [by_image, masked] =
      batch_norm_sums(grad, maps, output, weight, bias, statistics, std::nullopt, relu);
  const int64_t channels = maps.size(1);
  Tensor sums = empty(maps, {2, channels}, ScalarType::Double);
  const double* from = static_cast<const double*>(by_image.const_data_ptr());
  std::copy(from, from + 2 * channels, static_cast<double*>(sums.mutable_data_ptr()));
  auto as_parameter = [&](const double* values) {
    Tensor gradient = empty(maps, {channels}, weight.scalar_type());
    if (weight.scalar_type() == ScalarType::Float) {
      std::copy(values, values + channels, static_cast<float*>(gradient.mutable_data_ptr()));
    } else {
      std::copy(values, values + channels, static_cast<double*>(gradient.mutable_data_ptr()));
    }
    return gradient;
  };
  Tensor maps_grad =
      batch_norm_gradient(output ? masked : grad, maps, weight, bias, statistics, std::nullopt,
                          std::nullopt, sums, training, relu && !output);
  return {maps_grad, masked, as_parameter(from + channels), as_parameter(from)};
}

}  // namespace
}  // namespace usvs

STABLE_TORCH_LIBRARY_IMPL(usvs, CPU, library) {
  library.impl("batch_norm_moments", TORCH_BOX(&usvs::batch_norm_moments));
  library.impl("batch_norm_forward", TORCH_BOX(&usvs::batch_norm_forward));
  library.impl("batch_norm_backward", TORCH_BOX(&usvs::batch_norm_backward));
  library.impl("batch_norm_apply", TORCH_BOX(&usvs::batch_norm_apply));
  library.impl("batch_norm_sums", TORCH_BOX(&usvs::batch_norm_sums));
  library.impl("batch_norm_gradient", TORCH_BOX(&usvs::batch_norm_gradient));
}
