// The log_spectrogram op: tensors to parameters and results, for every backend.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <functional>
#include <limits>
#include <optional>
#include <string>

#include "bindings/checks.h"
#include "log_spectrogram.h"

namespace usvs {

// The settings of a call, in the schema's order.
struct SpectrogramSettings {
  int64_t n_fft, win_length, hop_length, frames;
  double eps;
  std::optional<Tensor> offsets;
  std::optional<int64_t> length;
};

inline void check_spectrogram_settings(const char* op, const SpectrogramSettings& settings) {
  constexpr int64_t max_value = std::numeric_limits<int32_t>::max();
  check_range(op, "n_fft", settings.n_fft, 64, 4096);
  if (settings.n_fft & (settings.n_fft - 1)) {
    throw_argument_error(op, "n_fft", "a power of two", std::to_string(settings.n_fft));
  }
  check_range(op, "win_length", settings.win_length, 1, settings.n_fft);
  check_range(op, "hop_length", settings.hop_length, 1, max_value);
  check_range(op, "frames", settings.frames, 1, max_value);
  if (!(settings.eps >= std::numeric_limits<float>::min()) || std::isinf(settings.eps)) {
    throw_argument_error(op, "eps", "a finite normal number above 0", number_text(settings.eps));
  }
  if (settings.offsets && !settings.length)
    throw_argument_error(op, "length", "one beside offsets", "none");
  if (settings.length && !settings.offsets)
    throw_argument_error(op, "offsets", "some beside length", "none");
}

// Sets the clips: rows of a waveform, or parts of one recording.
template <typename Real>
void set_waveform(const char* op, const Tensor& waveform, const SpectrogramSettings& settings,
                  LogSpectrogramInputs<Real>& inputs) {
  inputs.waveform = static_cast<const Real*>(waveform.const_data_ptr());
  if (!settings.offsets) {
    check_shape(op, "waveform", waveform, -1, -1);
    inputs.clips = waveform.size(0);
    inputs.samples = waveform.size(1);
    inputs.waveform_stride = waveform.stride(0);
    return;
  }
  const Tensor& offsets = *settings.offsets;
  if (waveform.dim() != 1) {
    throw_argument_error(op, "waveform", "shape [any] beside offsets", shape_text(waveform));
  }
  check_dtype(op, "offsets", offsets, ScalarType::Long);
  if (offsets.dim() != 1) throw_argument_error(op, "offsets", "shape [any]", shape_text(offsets));
  check_device(op, "offsets", offsets, "waveform", waveform);
  inputs.offsets = static_cast<const int64_t*>(offsets.const_data_ptr());
  inputs.clips = offsets.size(0);
  inputs.samples = *settings.length;
  inputs.recording_samples = waveform.size(0);
  check_range(op, "length", inputs.samples, 1, inputs.recording_samples);
}

// `waveform` and the offsets must be contiguous in their last dimension: see contiguous_samples.
template <typename Real>
LogSpectrogramInputs<Real> log_spectrogram_inputs(const Tensor& waveform,
                                                  const SpectrogramSettings& settings) {
  constexpr const char* op = "log_spectrogram";
  LogSpectrogramInputs<Real> inputs{};
  check_spectrogram_settings(op, settings);
  set_waveform(op, waveform, settings, inputs);
  inputs.n_fft = settings.n_fft;
  inputs.win_length = settings.win_length;
  inputs.hop_length = settings.hop_length;
  inputs.frames = settings.frames;
  inputs.eps = settings.eps;
  if (inputs.samples <= inputs.reach()) {
    throw_argument_error(op, settings.offsets ? "length" : "waveform",
                         "more than " + std::to_string(inputs.reach()) +
                             " samples, half a window (the ends are reflected)",
                         std::to_string(inputs.samples));
  }
  return inputs;
}

// Makes the samples of each row and the offsets contiguous; rows may have any distance.
inline Tensor contiguous_samples(const Tensor& waveform, SpectrogramSettings& settings) {
  if (settings.offsets) settings.offsets = as_contiguous(*settings.offsets);
  const int64_t dim = waveform.dim();
  return dim > 0 && waveform.stride(dim - 1) == 1 ? waveform : as_contiguous(waveform);
}

// The dtype of the result: that of the waveform, or bfloat16 for a float32 waveform.
inline ScalarType spectrogram_dtype(const Tensor& waveform, std::optional<ScalarType> expected) {
  const ScalarType own = waveform.scalar_type();
  if (!expected || *expected == own) return own;
  if (own == ScalarType::Float && *expected == ScalarType::BFloat16) return *expected;
  throw_argument_error("log_spectrogram", "dtype",
                       std::string(torch::headeronly::toString(own)) +
                           (own == ScalarType::Float ? " or BFloat16" : ""),
                       torch::headeronly::toString(*expected));
}

// The op on a backend. Backend::with_waveform(tensor, function) calls function with a value of the
// tensor's element type; Backend::forward(params, like) runs the pass, `like` being a tensor on its
// device.
template <typename Backend>
void run_log_spectrogram(const Tensor& waveform, const SpectrogramSettings& settings,
                         const std::function<Tensor(int64_t, int64_t)>& output_of) {
  Backend::with_waveform(waveform, [&](auto zero) {
    using Real = decltype(zero);
    LogSpectrogramForwardParams<Real> params{log_spectrogram_inputs<Real>(waveform, settings)};
    Tensor output = output_of(params.clips, params.bands());
    params.output = output.mutable_data_ptr();
    params.bfloat16_output = output.scalar_type() == ScalarType::BFloat16;
    Backend::forward(params, waveform);
  });
}

template <typename Backend>
Tensor log_spectrogram(Tensor waveform, int64_t n_fft, int64_t win_length, int64_t hop_length,
                       int64_t frames, double eps, std::optional<Tensor> offsets,
                       std::optional<int64_t> length, std::optional<ScalarType> dtype) {
  SpectrogramSettings settings{n_fft, win_length, hop_length, frames, eps, offsets, length};
  waveform = contiguous_samples(waveform, settings);
  Tensor output;
  run_log_spectrogram<Backend>(waveform, settings, [&](int64_t clips, int64_t bands) {
    output = empty(waveform, {clips, 1, bands, frames}, spectrogram_dtype(waveform, dtype));
    return output;
  });
  return output;
}

template <typename Backend>
void log_spectrogram_out(Tensor waveform, int64_t n_fft, int64_t win_length, int64_t hop_length,
                         int64_t frames, double eps, std::optional<Tensor> offsets,
                         std::optional<int64_t> length, Tensor out) {
  SpectrogramSettings settings{n_fft, win_length, hop_length, frames, eps, offsets, length};
  const Tensor given = waveform;
  waveform = contiguous_samples(waveform, settings);
  run_log_spectrogram<Backend>(waveform, settings, [&](int64_t clips, int64_t bands) {
    check_out("log_spectrogram", out, {clips, 1, bands, frames},
              spectrogram_dtype(waveform, out.scalar_type()), "waveform", waveform);
    check_no_overlap("log_spectrogram", out, "waveform", given);
    if (offsets) check_no_overlap("log_spectrogram", out, "offsets", *offsets);
    return out;
  });
}

template <typename Backend>
Tensor log_spectrogram_backward(Tensor grad, Tensor waveform, int64_t n_fft, int64_t win_length,
                                int64_t hop_length, int64_t frames, double eps,
                                std::optional<Tensor> offsets, std::optional<int64_t> length) {
  SpectrogramSettings settings{n_fft, win_length, hop_length, frames, eps, offsets, length};
  waveform = contiguous_samples(waveform, settings);
  grad = as_contiguous(grad);
  Tensor waveform_grad = empty(waveform, sizes_of(waveform), waveform.scalar_type());
  Backend::with_waveform(waveform, [&](auto zero) {
    using Real = decltype(zero);
    LogSpectrogramBackwardParams<Real> params{log_spectrogram_inputs<Real>(waveform, settings)};
    check_dtype("log_spectrogram", "grad", grad, waveform.scalar_type());
    check_sizes("log_spectrogram", "grad", grad, {params.clips, 1, params.bands(), frames});
    params.output_grad = static_cast<const Real*>(grad.const_data_ptr());
    params.waveform_grad = static_cast<Real*>(waveform_grad.mutable_data_ptr());
    Backend::backward(params, waveform);
  });
  return waveform_grad;
}

}  // namespace usvs
