// From tensors to params: shapes, dtypes and ranges. Shared by every backend.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <limits>
#include <string>

#include "bindings/checks.h"
#include "contrastive_loss.h"
#include "log_spectrogram.h"

namespace usvs {

template <typename Real>
LogSpectrogramParams<Real> log_spectrogram_params(const Tensor& waveform, int64_t n_fft,
                                                  int64_t win_length, int64_t hop_length,
                                                  int64_t frames, double eps) {
  constexpr const char* op = "log_spectrogram";
  check_shape(op, "waveform", waveform, -1, -1);
  check_range(op, "n_fft", n_fft, 64, 4096);
  if (n_fft & (n_fft - 1)) refuse(op, "n_fft", "a power of two", std::to_string(n_fft));
  check_range(op, "win_length", win_length, 1, n_fft);
  check_range(op, "hop_length", hop_length, 1, std::numeric_limits<int32_t>::max());
  check_range(op, "frames", frames, 1, std::numeric_limits<int32_t>::max());
  if (!(eps >= std::numeric_limits<float>::min()) || std::isinf(eps)) {
    refuse(op, "eps", "a finite normal number above 0", number_text(eps));
  }
  if (waveform.size(1) <= n_fft / 2) {
    refuse(
        op, "waveform",
        "more than n_fft / 2 = " + std::to_string(n_fft / 2) + " samples (the ends are reflected)",
        std::to_string(waveform.size(1)));
  }
  LogSpectrogramParams<Real> params{};
  params.waveform = static_cast<const Real*>(waveform.const_data_ptr());
  params.clips = waveform.size(0);
  params.samples = waveform.size(1);
  params.waveform_stride = waveform.stride(0);
  params.n_fft = n_fft;
  params.win_length = win_length;
  params.hop_length = hop_length;
  params.frames = frames;
  params.eps = eps;
  return params;
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
