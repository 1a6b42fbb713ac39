// The two kernels on the CPU: registers their implementations with torch.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <optional>
#include <string>
#include <tuple>

#include "bindings/contrastive_loss_op.h"
#include "bindings/log_spectrogram_op.h"
#include "bindings/torch_threads.h"

namespace usvs {
namespace {

// Checks values on the CPU only: on a GPU this would make the host wait.
template <typename Real>
void check_offsets(const LogSpectrogramInputs<Real>& params) {
  if (!params.offsets) return;
  for (int64_t i = 0; i < params.clips; ++i) {
    check_range("log_spectrogram", "offsets", params.offsets[i], 0,
                params.recording_samples - params.samples);
  }
}

// Checks values on the CPU only: on a GPU this would make the host wait.
template <typename Input>
void check_self_index(const ContrastiveLossInputs<Input>& params) {
  const bool may_be_alone = params.form == ContrastiveForm::logsumexp;  // then it is -inf
  for (int64_t i = 0; i < params.rows; ++i) {
    const int64_t self = params.self_index[i];
    check_range("contrastive_loss", "self_index", self, -1, params.columns - 1);
    if (params.columns == 1 && self == 0 && !may_be_alone) {
      throw_argument_error("contrastive_loss", "candidates", "a row beside the anchor itself",
                           "only the anchor itself (row " + std::to_string(i) + ")");
    }
  }
}

struct Cpu {
  template <typename Function>
  static void with_waveform(const Tensor& tensor, const Function& function) {
    if (tensor.scalar_type() == ScalarType::Float) return function(float{});
    if (tensor.scalar_type() == ScalarType::Double) return function(double{});
    throw_argument_error("log_spectrogram", "waveform", "float32 or float64",
                         torch::headeronly::toString(tensor.scalar_type()));
  }
  template <typename Real>
  static void forward(const LogSpectrogramForwardParams<Real>& params, const Tensor&) {
    check_offsets(params);
    cpu::log_spectrogram_forward(params, torch_threads);
  }
  template <typename Real>
  static void backward(const LogSpectrogramBackwardParams<Real>& params, const Tensor&) {
    check_offsets(params);
    cpu::log_spectrogram_backward(params, torch_threads);
  }

  template <typename Function>
  static void with_embedding(const Tensor& tensor, const Function& function) {
    if (tensor.scalar_type() == ScalarType::BFloat16) return function(BFloat16{});
    if (tensor.scalar_type() == ScalarType::Float) return function(float{});
    if (tensor.scalar_type() == ScalarType::Double) return function(double{});
    throw_argument_error("contrastive_loss", "anchors", "float32, float64 or bfloat16",
                         torch::headeronly::toString(tensor.scalar_type()));
  }
  template <typename Input>
  static void forward(const ContrastiveForwardParams<Input>& params, const Tensor&) {
    check_self_index(params);
    cpu::contrastive_loss_forward(params, torch_threads);
  }
  template <typename Input>
  static void backward(const ContrastiveBackwardParams<Input>& params, const Tensor&) {
    check_self_index(params);
    cpu::contrastive_loss_backward(params, torch_threads);
  }
};

// The forward pass saves slopes, logsumexp and g'(m) in one tensor: allocating, saving and passing
// four tensors costs a small batch several microseconds.
int64_t saved_elements(const ContrastiveTensors& tensors) {
  const int64_t rows = tensors.anchors.size(0), columns = tensors.candidates.size(0);
  return (rows + columns) * tensors.anchors.size(1) + 2 * rows;
}

// Points the members that params has in common with ContrastiveSlopesParams into `saved`.
template <typename Params>
void assign_saved(Params& params, typename Params::Real* saved) {
  params.anchors_slope = saved;
  params.candidates_slope = saved + params.rows * params.width;
  params.logsumexp = params.candidates_slope + params.columns * params.width;
  params.margin_slope = params.logsumexp + params.rows;
}

std::tuple<Tensor, Tensor> contrastive_loss_with_slopes(Tensor anchors, Tensor positives,
                                                        Tensor hard_negatives, Tensor candidates,
                                                        Tensor self_index, double temperature,
                                                        double margin_floor,
                                                        StringHandle form_handle,
                                                        std::optional<Tensor> learned_temperature) {
  const std::string form = take_string(form_handle);
  const ContrastiveTensors tensors = checked_contrastive_tensors(
      anchors, positives, hard_negatives, candidates, self_index, learned_temperature);
  const ScalarType dtype = tensors.accumulated_dtype();
  Tensor losses = empty(tensors.anchors, {tensors.anchors.size(0)}, dtype);
  Tensor saved = empty(tensors.anchors, {saved_elements(tensors)}, dtype);
  Cpu::with_embedding(tensors.anchors, [&](auto zero) {
    using Input = decltype(zero);
    using Real = typename Accumulated<Input>::type;
    ContrastiveSlopesParams<Input> params{
        {contrastive_inputs<Input>(tensors, temperature, margin_floor, form)}};
    check_self_index(params);
    params.losses = static_cast<Real*>(losses.mutable_data_ptr());
    assign_saved(params, static_cast<Real*>(saved.mutable_data_ptr()));
    cpu::contrastive_loss_with_slopes(params, torch_threads);
  });
  return {losses, saved};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> contrastive_loss_backward_from_slopes(
    Tensor grad, Tensor anchors, Tensor positives, Tensor hard_negatives, Tensor candidates,
    Tensor self_index, Tensor saved, double temperature, double margin_floor,
    StringHandle form_handle, std::optional<Tensor> learned_temperature) {
  const std::string form = take_string(form_handle);
  const ContrastiveTensors tensors = checked_contrastive_tensors(
      anchors, positives, hard_negatives, candidates, self_index, learned_temperature);
  const Tensor slopes = checked_vector("saved", saved, saved_elements(tensors), tensors);
  return contrastive_gradients<Cpu>(
      tensors, grad, temperature, margin_floor, form, [&](auto& params) {
        check_self_index(params);
        using Real = typename std::remove_reference_t<decltype(params)>::Real;
        assign_saved(params, static_cast<Real*>(slopes.data_ptr()));
        cpu::contrastive_loss_backward_from_slopes(params, torch_threads);
      });
}

}  // namespace
}  // namespace usvs

STABLE_TORCH_LIBRARY_IMPL(usvs, CPU, library) {
  library.impl("log_spectrogram", TORCH_BOX(&usvs::log_spectrogram<usvs::Cpu>));
  library.impl("log_spectrogram.out", TORCH_BOX(&usvs::log_spectrogram_out<usvs::Cpu>));
  library.impl("log_spectrogram_backward", TORCH_BOX(&usvs::log_spectrogram_backward<usvs::Cpu>));
  library.impl("contrastive_loss_forward", TORCH_BOX(&usvs::contrastive_loss_forward<usvs::Cpu>));
  library.impl("contrastive_loss_backward", TORCH_BOX(&usvs::contrastive_loss_backward<usvs::Cpu>));
  library.impl("contrastive_loss_with_slopes", TORCH_BOX(&usvs::contrastive_loss_with_slopes));
  library.impl("contrastive_loss_backward_from_slopes",
               TORCH_BOX(&usvs::contrastive_loss_backward_from_slopes));
}
