// The ops on the CPU: allocate, hand out slices to torch's threads.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <functional>
#include <optional>
#include <string>

#include "bindings/contrastive_loss_op.h"
#include "bindings/log_spectrogram_op.h"

namespace usvs {
namespace {

using torch::stable::contiguous;
using torch::stable::new_empty;

const Threads torch_threads{[](int64_t tasks, void* context, Threads::Body body) {
  torch::stable::parallel_for(0, tasks, 1,
                              [&](int64_t begin, int64_t end) { body(context, begin, end); });
}};

// Calls function with a value of the C++ type behind a dtype.
template <typename Function>
void with_real(const char* op, const char* name, const Tensor& tensor, const Function& function) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return function(float{});
    case ScalarType::Double:
      return function(double{});
    default:
      refuse(op, name, "float32 or float64", torch::headeronly::toString(tensor.scalar_type()));
  }
}

// Only here can offsets be looked at: on a GPU this would make the host wait.
template <typename Real>
void check_offsets(const LogSpectrogramParams<Real>& params) {
  if (!params.offsets) return;
  for (int64_t i = 0; i < params.clips; ++i) {
    check_range("log_spectrogram", "offsets", params.offsets[i], 0,
                params.recording_samples - params.samples);
  }
}

void run_log_spectrogram(const Tensor& waveform, const SpectrogramSettings& settings,
                         const std::function<Tensor(int64_t, int64_t)>& output_of) {
  with_real("log_spectrogram", "waveform", waveform, [&](auto zero) {
    using Real = decltype(zero);
    auto params = log_spectrogram_params<Real>(waveform, settings);
    check_offsets(params);
    Tensor output = output_of(params.clips, params.bands());
    params.output = output.mutable_data_ptr();
    params.bfloat16_output = output.scalar_type() == ScalarType::BFloat16;
    cpu::log_spectrogram_forward(params, torch_threads);
  });
}

Tensor log_spectrogram(Tensor waveform, int64_t n_fft, int64_t win_length, int64_t hop_length,
                       int64_t frames, double eps, std::optional<Tensor> offsets,
                       std::optional<int64_t> length, std::optional<ScalarType> dtype) {
  SpectrogramSettings settings{n_fft, win_length, hop_length, frames, eps, offsets, length};
  waveform = packed_waveform(waveform, settings);
  Tensor output;
  run_log_spectrogram(waveform, settings, [&](int64_t clips, int64_t bands) {
    output = new_empty(waveform, {clips, 1, bands, frames}, spectrogram_dtype(waveform, dtype));
    return output;
  });
  return output;
}

void log_spectrogram_out(Tensor waveform, int64_t n_fft, int64_t win_length, int64_t hop_length,
                         int64_t frames, double eps, std::optional<Tensor> offsets,
                         std::optional<int64_t> length, Tensor out) {
  SpectrogramSettings settings{n_fft, win_length, hop_length, frames, eps, offsets, length};
  waveform = packed_waveform(waveform, settings);
  run_log_spectrogram(waveform, settings, [&](int64_t clips, int64_t bands) {
    check_out("log_spectrogram", out, {clips, 1, bands, frames},
              spectrogram_dtype(waveform, out.scalar_type()));
    return out;
  });
}

Tensor log_spectrogram_backward(Tensor grad, Tensor waveform, int64_t n_fft, int64_t win_length,
                                int64_t hop_length, int64_t frames, double eps,
                                std::optional<Tensor> offsets, std::optional<int64_t> length) {
  SpectrogramSettings settings{n_fft, win_length, hop_length, frames, eps, offsets, length};
  waveform = packed_waveform(waveform, settings);
  grad = contiguous(grad);
  Tensor waveform_grad = new_empty(waveform, waveform.sizes());
  with_real("log_spectrogram", "waveform", waveform, [&](auto zero) {
    using Real = decltype(zero);
    auto params = log_spectrogram_params<Real>(waveform, settings);
    check_offsets(params);
    check_dtype("log_spectrogram", "grad", grad, waveform.scalar_type());
    check_sizes("log_spectrogram", "grad", grad, {params.clips, 1, params.bands(), frames});
    params.output_grad = static_cast<const Real*>(grad.const_data_ptr());
    params.waveform_grad = static_cast<Real*>(waveform_grad.mutable_data_ptr());
    cpu::log_spectrogram_backward(params, torch_threads);
  });
  return waveform_grad;
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
  library.impl("log_spectrogram", TORCH_BOX(&usvs::log_spectrogram));
  library.impl("log_spectrogram.out", TORCH_BOX(&usvs::log_spectrogram_out));
  library.impl("log_spectrogram_backward", TORCH_BOX(&usvs::log_spectrogram_backward));
  library.impl("contrastive_loss_forward", TORCH_BOX(&usvs::contrastive_loss_forward<usvs::Cpu>));
  library.impl("contrastive_loss_backward", TORCH_BOX(&usvs::contrastive_loss_backward<usvs::Cpu>));
}
