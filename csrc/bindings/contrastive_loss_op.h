// The contrastive_loss op: tensors to parameters and results, for every backend.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "bindings/checks.h"
#include "contrastive_loss.h"

namespace usvs {

// The checked, contiguous arguments of the op.
struct ContrastiveTensors {
  Tensor anchors;                             // [n, d]
  Tensor positives;                           // [n, d]
  Tensor hard_negatives;                      // [n, d]
  Tensor candidates;                          // [M, d]
  Tensor self_index;                          // [n]
  std::optional<Tensor> learned_temperature;  // one element; replaces the number

  ScalarType accumulated_dtype() const {
    return anchors.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  }
};

inline ContrastiveTensors checked_contrastive_tensors(Tensor anchors, Tensor positives,
                                                      Tensor hard_negatives, Tensor candidates,
                                                      Tensor self_index,
                                                      std::optional<Tensor> learned_temperature) {
  constexpr const char* op = "contrastive_loss";
  check_shape(op, "anchors", anchors, -1, -1);
  const int64_t rows = anchors.size(0), width = anchors.size(1);
  check_shape(op, "positives", positives, rows, width);
  check_shape(op, "hard_negatives", hard_negatives, rows, width);
  check_shape(op, "candidates", candidates, -1, width);
  for (auto [name, tensor] :
       {std::pair{"positives", &positives}, std::pair{"hard_negatives", &hard_negatives},
        std::pair{"candidates", &candidates}}) {
    check_dtype(op, name, *tensor, anchors.scalar_type());
    check_device(op, name, *tensor, "anchors", anchors);
  }
  check_dtype(op, "self_index", self_index, ScalarType::Long);
  check_device(op, "self_index", self_index, "anchors", anchors);
  if (self_index.dim() != 1 || self_index.size(0) != rows) {
    throw_argument_error(op, "self_index", "shape [" + std::to_string(rows) + "]",
                         shape_text(self_index));
  }
  if (rows > 0 && candidates.size(0) == 0)
    throw_argument_error(op, "candidates", "at least one row", "none");
  const ContrastiveTensors tensors{as_contiguous(anchors),        as_contiguous(positives),
                                   as_contiguous(hard_negatives), as_contiguous(candidates),
                                   as_contiguous(self_index),     learned_temperature};
  if (learned_temperature) {
    check_dtype(op, "temperature", *learned_temperature, tensors.accumulated_dtype());
    check_device(op, "temperature", *learned_temperature, "anchors", anchors);
    if (learned_temperature->numel() != 1) {
      throw_argument_error(op, "temperature", "a number, or a tensor of one element",
                           "shape " + shape_text(*learned_temperature));
    }
  }
  return tensors;
}

inline ContrastiveForm contrastive_form(const std::string& form) {
  if (form == "eq2") return ContrastiveForm::eq2;
  if (form == "ntxent") return ContrastiveForm::ntxent;
  if (form == "logsumexp") return ContrastiveForm::logsumexp;
  throw_argument_error("contrastive_loss", "form", "'eq2', 'ntxent' or 'logsumexp'",
                       "'" + form + "'");
}

template <typename Input>
ContrastiveLossInputs<Input> contrastive_inputs(const ContrastiveTensors& tensors,
                                                double temperature, double margin_floor,
                                                const std::string& form) {
  using Real = typename Accumulated<Input>::type;
  const Real* learned = nullptr;
  if (tensors.learned_temperature) {
    learned = static_cast<const Real*>(tensors.learned_temperature->const_data_ptr());
    // On a GPU the kernel reads it: reading it here would make the host wait.
    if (tensors.learned_temperature->is_cpu()) temperature = *learned;
  }
  check_positive("contrastive_loss", "temperature", temperature);
  check_positive("contrastive_loss", "margin_floor", margin_floor);
  ContrastiveLossInputs<Input> inputs{};
  inputs.anchors = static_cast<const Input*>(tensors.anchors.const_data_ptr());
  inputs.positives = static_cast<const Input*>(tensors.positives.const_data_ptr());
  inputs.hard_negatives = static_cast<const Input*>(tensors.hard_negatives.const_data_ptr());
  inputs.candidates = static_cast<const Input*>(tensors.candidates.const_data_ptr());
  inputs.self_index = static_cast<const int64_t*>(tensors.self_index.const_data_ptr());
  inputs.rows = tensors.anchors.size(0);
  inputs.columns = tensors.candidates.size(0);
  inputs.width = tensors.anchors.size(1);
  inputs.temperature = temperature;
  inputs.device_temperature = learned;
  inputs.margin_floor = margin_floor;
  inputs.form = contrastive_form(form);
  return inputs;
}

// The op on a backend. Backend::with_embedding(tensor, function) calls function with a value of the
// tensor's element type; Backend::forward(params, like) runs the pass, `like` being a tensor on its
// device.
template <typename Backend>
std::tuple<Tensor, Tensor> contrastive_loss_forward(Tensor anchors, Tensor positives,
                                                    Tensor hard_negatives, Tensor candidates,
                                                    Tensor self_index, double temperature,
                                                    double margin_floor, StringHandle form_handle,
                                                    std::optional<Tensor> learned_temperature) {
  const std::string form = take_string(form_handle);
  const ContrastiveTensors tensors = checked_contrastive_tensors(
      anchors, positives, hard_negatives, candidates, self_index, learned_temperature);
  Tensor losses, logsumexp;
  Backend::with_embedding(tensors.anchors, [&](auto zero) {
    using Input = decltype(zero);
    using Real = typename Accumulated<Input>::type;
    const auto inputs = contrastive_inputs<Input>(tensors, temperature, margin_floor, form);
    losses = empty(tensors.anchors, {inputs.rows}, tensors.accumulated_dtype());
    logsumexp = empty(tensors.anchors, {inputs.rows}, tensors.accumulated_dtype());
    const ContrastiveForwardParams<Input> params{inputs,
                                                 static_cast<Real*>(losses.mutable_data_ptr()),
                                                 static_cast<Real*>(logsumexp.mutable_data_ptr())};
    Backend::forward(params, tensors.anchors);
  });
  return {losses, logsumexp};
}

// Copies a vector with gaps, as the gradient of a mean is: one number for all. On the CPU without
// torch's dispatcher, which takes as long as the backward pass of a small batch.
inline Tensor contiguous_vector(const Tensor& vector) {
  if (vector.is_contiguous() || !vector.is_cpu()) return as_contiguous(vector);
  const auto copy = [&](auto zero) {
    using Real = decltype(zero);
    Tensor result = empty(vector, {vector.size(0)}, vector.scalar_type());
    const Real* from = static_cast<const Real*>(vector.const_data_ptr());
    Real* to = static_cast<Real*>(result.mutable_data_ptr());
    for (int64_t i = 0; i < vector.size(0); ++i) to[i] = from[i * vector.stride(0)];
    return result;
  };
  return vector.scalar_type() == ScalarType::Double ? copy(double{}) : copy(float{});
}

// A vector with one element for each loss, float or double, checked and contiguous.
inline Tensor checked_vector(const char* name, const Tensor& vector, int64_t elements,
                             const ContrastiveTensors& tensors) {
  constexpr const char* op = "contrastive_loss";
  check_dtype(op, name, vector, tensors.accumulated_dtype());
  check_sizes(op, name, vector, {elements});
  check_device(op, name, vector, "anchors", tensors.anchors);
  return contiguous_vector(vector);
}

// Allocates the gradients and calls run(params), which sets what the forward pass saved.
template <typename Backend, typename Run>
std::tuple<Tensor, Tensor, Tensor, Tensor> contrastive_gradients(
    const ContrastiveTensors& tensors, const Tensor& losses_grad, double temperature,
    double margin_floor, const std::string& form, const Run& run) {
  const Tensor grad = checked_vector("grad", losses_grad, tensors.anchors.size(0), tensors);
  const int64_t pairs =
      contrastive_form(form) == ContrastiveForm::logsumexp ? 0 : tensors.anchors.size(0);
  const std::vector<int64_t> pair_sizes{pairs, tensors.anchors.size(1)};
  Tensor anchors_grad = empty_like_contiguous(tensors.anchors);
  Tensor positives_grad = empty(tensors.anchors, pair_sizes, tensors.anchors.scalar_type());
  Tensor hard_negatives_grad = empty(tensors.anchors, pair_sizes, tensors.anchors.scalar_type());
  Tensor candidates_grad = empty_like_contiguous(tensors.candidates);
  Backend::with_embedding(tensors.anchors, [&](auto zero) {
    using Input = decltype(zero);
    using Real = typename Accumulated<Input>::type;
    ContrastiveBackwardFromSlopesParams<Input> params{
        {contrastive_inputs<Input>(tensors, temperature, margin_floor, form)}};
    params.losses_grad = static_cast<const Real*>(grad.const_data_ptr());
    params.anchors_grad = static_cast<Input*>(anchors_grad.mutable_data_ptr());
    params.positives_grad = static_cast<Input*>(positives_grad.mutable_data_ptr());
    params.hard_negatives_grad = static_cast<Input*>(hard_negatives_grad.mutable_data_ptr());
    params.candidates_grad = static_cast<Input*>(candidates_grad.mutable_data_ptr());
    run(params);
  });
  return {anchors_grad, positives_grad, hard_negatives_grad, candidates_grad};
}

template <typename Backend>
std::tuple<Tensor, Tensor, Tensor, Tensor> contrastive_loss_backward(
    Tensor grad, Tensor anchors, Tensor positives, Tensor hard_negatives, Tensor candidates,
    Tensor self_index, Tensor logsumexp, double temperature, double margin_floor,
    StringHandle form_handle, std::optional<Tensor> learned_temperature) {
  const std::string form = take_string(form_handle);
  const ContrastiveTensors tensors = checked_contrastive_tensors(
      anchors, positives, hard_negatives, candidates, self_index, learned_temperature);
  const Tensor sums = checked_vector("logsumexp", logsumexp, tensors.anchors.size(0), tensors);
  return contrastive_gradients<Backend>(
      tensors, grad, temperature, margin_floor, form, [&](auto& params) {
        params.logsumexp = static_cast<decltype(params.logsumexp)>(sums.const_data_ptr());
        Backend::backward(params, tensors.anchors);
      });
}

}  // namespace usvs
