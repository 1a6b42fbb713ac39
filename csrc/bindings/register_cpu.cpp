// The ops on the CPU: allocate, hand out slices to torch's threads.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "bindings/contrastive_loss_op.h"
#include "bindings/log_spectrogram_op.h"

namespace usvs {
namespace {

const Threads torch_threads{[](int64_t tasks, void* context, Threads::Body body) {
  torch::stable::parallel_for(0, tasks, 1,
                              [&](int64_t begin, int64_t end) { body(context, begin, end); });
}};

// Only here can offsets be looked at: on a GPU this would make the host wait.
template <typename Real>
void check_offsets(const LogSpectrogramParams<Real>& params) {
  if (!params.offsets) return;
  for (int64_t i = 0; i < params.clips; ++i) {
    check_range("log_spectrogram", "offsets", params.offsets[i], 0,
                params.recording_samples - params.samples);
  }
}

// Only here can indices be looked at: on a GPU this would make the host wait.
void check_self_index(const int64_t* self_index, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    check_range("contrastive_loss", "self_index", self_index[i], -1, columns - 1);
    if (columns == 1 && self_index[i] == 0) {
      refuse("contrastive_loss", "candidates", "a row beside the anchor itself",
             "only the anchor itself (row " + std::to_string(i) + ")");
    }
  }
}

struct Cpu {
  template <typename Function>
  static void with_waveform(const Tensor& tensor, const Function& function) {
    if (tensor.scalar_type() == ScalarType::Float) return function(float{});
    if (tensor.scalar_type() == ScalarType::Double) return function(double{});
    refuse("log_spectrogram", "waveform", "float32 or float64",
           torch::headeronly::toString(tensor.scalar_type()));
  }
  template <typename Real>
  static void forward(const LogSpectrogramParams<Real>& params, const Tensor&) {
    check_offsets(params);
    cpu::log_spectrogram_forward(params, torch_threads);
  }
  template <typename Real>
  static void backward(const LogSpectrogramParams<Real>& params, const Tensor&) {
    check_offsets(params);
    cpu::log_spectrogram_backward(params, torch_threads);
  }

  template <typename Function>
  static void with_embedding(const Tensor& tensor, const Function& function) {
    if (tensor.scalar_type() == ScalarType::BFloat16) return function(BFloat16{});
    if (tensor.scalar_type() == ScalarType::Float) return function(float{});
    if (tensor.scalar_type() == ScalarType::Double) return function(double{});
    refuse("contrastive_loss", "anchors", "float32, float64 or bfloat16",
           torch::headeronly::toString(tensor.scalar_type()));
  }
  template <typename Input>
  static void forward(const ContrastiveLossParams<Input>& params, const Tensor&) {
    check_self_index(params.self_index, params.rows, params.columns);
    cpu::contrastive_loss_forward(params, torch_threads);
  }
  template <typename Input>
  static void backward(const ContrastiveLossParams<Input>& params, const Tensor&) {
    check_self_index(params.self_index, params.rows, params.columns);
    cpu::contrastive_loss_backward(params, torch_threads);
  }
};

}  // namespace
}  // namespace usvs

STABLE_TORCH_LIBRARY_IMPL(usvs, CPU, library) {
  library.impl("log_spectrogram", TORCH_BOX(&usvs::log_spectrogram<usvs::Cpu>));
  library.impl("log_spectrogram.out", TORCH_BOX(&usvs::log_spectrogram_out<usvs::Cpu>));
  library.impl("log_spectrogram_backward", TORCH_BOX(&usvs::log_spectrogram_backward<usvs::Cpu>));
  library.impl("contrastive_loss_forward", TORCH_BOX(&usvs::contrastive_loss_forward<usvs::Cpu>));
  library.impl("contrastive_loss_backward", TORCH_BOX(&usvs::contrastive_loss_backward<usvs::Cpu>));
}
