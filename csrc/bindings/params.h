// From tensors to params: shapes, dtypes and ranges. Shared by every backend.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <limits>
#include <optional>
#include <string>

#include "bindings/checks.h"
#include "contrastive_loss.h"
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
  if (offsets.device() != waveform.device()) {
    refuse(op, "offsets", "the waveform's device", "another");
  }
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

// What the contrastive op is given, checked and contiguous.
struct ContrastiveTensors {
  Tensor anchors;         // [n, d]
  Tensor positives;       // [n, d]
  Tensor hard_negatives;  // [n, d]
  Tensor candidates;      // [M, d]
  Tensor self_index;      // [n]

  ScalarType accumulated_dtype() const {
    return anchors.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  }
};

inline ContrastiveTensors checked_contrastive_tensors(Tensor anchors, Tensor positives,
                                                      Tensor hard_negatives, Tensor candidates,
                                                      Tensor self_index) {
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
  }
  check_dtype(op, "self_index", self_index, ScalarType::Long);
  if (self_index.dim() != 1 || self_index.size(0) != rows) {
    refuse(op, "self_index", "shape [" + std::to_string(rows) + "]", shape_text(self_index));
  }
  return {torch::stable::contiguous(anchors), torch::stable::contiguous(positives),
          torch::stable::contiguous(hard_negatives), torch::stable::contiguous(candidates),
          torch::stable::contiguous(self_index)};
}

inline ContrastiveForm contrastive_form(const std::string& form) {
  if (form == "eq2") return ContrastiveForm::eq2;
  if (form == "ntxent") return ContrastiveForm::ntxent;
  refuse("contrastive_loss", "form", "'eq2' or 'ntxent'", "'" + form + "'");
}

template <typename Input>
ContrastiveLossParams<Input> contrastive_params(const ContrastiveTensors& tensors,
                                                double temperature, double margin_floor,
                                                const std::string& form) {
  check_positive("contrastive_loss", "temperature", temperature);
  check_positive("contrastive_loss", "margin_floor", margin_floor);
  ContrastiveLossParams<Input> params{};
  params.anchors = static_cast<const Input*>(tensors.anchors.const_data_ptr());
  params.positives = static_cast<const Input*>(tensors.positives.const_data_ptr());
  params.hard_negatives = static_cast<const Input*>(tensors.hard_negatives.const_data_ptr());
  params.candidates = static_cast<const Input*>(tensors.candidates.const_data_ptr());
  params.self_index = static_cast<const int64_t*>(tensors.self_index.const_data_ptr());
  params.rows = tensors.anchors.size(0);
  params.columns = tensors.candidates.size(0);
  params.width = tensors.anchors.size(1);
  params.temperature = temperature;
  params.margin_floor = margin_floor;
  params.form = contrastive_form(form);
  return params;
}

}  // namespace usvs
