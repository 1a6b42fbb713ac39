// The spectrogram op, from tensors to params: shapes, dtypes and ranges. Shared by every backend.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <limits>
#include <optional>
#include <string>

#include "bindings/checks.h"
#include "log_spectrogram.h"

namespace usvs {

// A call's settings in the schema's order.
struct SpectrogramSettings {
  int64_t n_fft, win_length, hop_length, frames;
  double eps;
  std::optional<Tensor> offsets;
  std::optional<int64_t> length;
};

inline void check_spectrogram_settings(const char* op, const SpectrogramSettings& settings) {
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  check_range(op, "n_fft", settings.n_fft, 64, 4096);
  if (settings.n_fft & (settings.n_fft - 1)) {
    refuse(op, "n_fft", "a power of two", std::to_string(settings.n_fft));
  }
  check_range(op, "win_length", settings.win_length, 1, settings.n_fft);
  check_range(op, "hop_length", settings.hop_length, 1, most);
  check_range(op, "frames", settings.frames, 1, most);
  if (!(settings.eps >= std::numeric_limits<float>::min()) || std::isinf(settings.eps)) {
    refuse(op, "eps", "a finite normal number above 0", number_text(settings.eps));
  }
  if (settings.offsets && !settings.length) refuse(op, "length", "one beside offsets", "none");
  if (settings.length && !settings.offsets) refuse(op, "offsets", "some beside length", "none");
}

// Clips are the rows of a waveform, or pieces of one recording.
template <typename Real>
void take_waveform(const char* op, const Tensor& waveform, const SpectrogramSettings& settings,
                   LogSpectrogramParams<Real>& params) {
  params.waveform = static_cast<const Real*>(waveform.const_data_ptr());
  if (!settings.offsets) {
    check_shape(op, "waveform", waveform, -1, -1);
    params.clips = waveform.size(0);
    params.samples = waveform.size(1);
    params.waveform_stride = waveform.stride(0);
    return;
  }
  const Tensor& offsets = *settings.offsets;
  if (waveform.dim() != 1) {
    refuse(op, "waveform", "shape [any] beside offsets", shape_text(waveform));
  }
  check_dtype(op, "offsets", offsets, ScalarType::Long);
  if (offsets.dim() != 1) refuse(op, "offsets", "shape [any]", shape_text(offsets));
  check_device(op, "offsets", offsets, "waveform", waveform);
  params.offsets = static_cast<const int64_t*>(offsets.const_data_ptr());
  params.clips = offsets.size(0);
  params.samples = *settings.length;
  params.recording_samples = waveform.size(0);
  check_range(op, "length", params.samples, 1, params.recording_samples);
}

// `waveform` and the offsets lie without gaps in their last dimension: see packed_waveform.
template <typename Real>
LogSpectrogramParams<Real> log_spectrogram_params(const Tensor& waveform,
                                                  const SpectrogramSettings& settings) {
  constexpr const char* op = "log_spectrogram";
  LogSpectrogramParams<Real> params{};
  check_spectrogram_settings(op, settings);
  take_waveform(op, waveform, settings, params);
  params.n_fft = settings.n_fft;
  params.win_length = settings.win_length;
  params.hop_length = settings.hop_length;
  params.frames = settings.frames;
  params.eps = settings.eps;
  if (params.samples <= params.reach()) {
    refuse(op, settings.offsets ? "length" : "waveform",
           "more than " + std::to_string(params.reach()) +
               " samples, half a window (the ends are reflected)",
           std::to_string(params.samples));
  }
  return params;
}

// Rows may lie anywhere, their samples and the offsets side by side.
inline Tensor packed_waveform(const Tensor& waveform, SpectrogramSettings& settings) {
  if (settings.offsets) settings.offsets = torch::stable::contiguous(*settings.offsets);
  const int64_t dim = waveform.dim();
  return dim > 0 && waveform.stride(dim - 1) == 1 ? waveform : torch::stable::contiguous(waveform);
}

// What a result of `waveform` may be: its own dtype, or bfloat16 of float32.
inline ScalarType spectrogram_dtype(const Tensor& waveform, std::optional<ScalarType> wanted) {
  const ScalarType own = waveform.scalar_type();
  if (!wanted || *wanted == own) return own;
  if (own == ScalarType::Float && *wanted == ScalarType::BFloat16) return *wanted;
  refuse("log_spectrogram", "dtype",
         std::string(torch::headeronly::toString(own)) +
             (own == ScalarType::Float ? " or BFloat16" : ""),
         torch::headeronly::toString(*wanted));
}

}  // namespace usvs
