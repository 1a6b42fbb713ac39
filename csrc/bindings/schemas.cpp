// The schemas of all ops. They are documented in usvs/ops/*.py.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(usvs, library) {
  library.def(
      "log_spectrogram(Tensor waveform, int n_fft=512, int win_length=240, int hop_length=120, "
      "int frames=256, float eps=1e-6, Tensor? offsets=None, int? length=None, "
      "ScalarType? dtype=None) -> Tensor");
  library.def(
      "log_spectrogram.out(Tensor waveform, int n_fft=512, int win_length=240, "
      "int hop_length=120, int frames=256, float eps=1e-6, Tensor? offsets=None, "
      "int? length=None, *, Tensor(a!) out) -> ()");
  library.def(
      "log_spectrogram_backward(Tensor grad, Tensor waveform, int n_fft, int win_length, "
      "int hop_length, int frames, float eps, Tensor? offsets, int? length) -> Tensor");
  library.def(
      "augment_frames(Tensor frames, Tensor corner, Tensor flip, Tensor slope, int pixels, int "
      "step, "
      "int halvings, float ceiling, float offset) -> Tensor");
  library.def(
      "pair_score(Tensor prediction, Tensor ground_truth, int kind, float epsilon) -> Tensor");
  library.def("fixation_statistics(Tensor values, Tensor fixated, bool ranks) -> Tensor");
  library.def("frame_energy(Tensor waveform, int length, float high_pass) -> Tensor");
  library.def(
      "saliency_statistics(Tensor prediction, Tensor ground_truth, Tensor fixated, int kinds, "
      "float "
      "epsilon) "
      "-> (Tensor scores, Tensor statistics)");
  library.def(
      "energy_threshold(Tensor energy, float ratio, float silence, float growth, "
      "float growth_of_growth, float scaling) -> Tensor");
  library.def(
      "contrastive_loss(Tensor anchors, Tensor positives, Tensor hard_negatives, "
      "Tensor candidates, Tensor self_index, float temperature=1.0, float margin_floor=1.0, "
      "str form='eq2', Tensor? learned_temperature=None, bool normalise=False) -> Tensor");
  library.def(
      "contrastive_loss_forward(Tensor anchors, Tensor positives, Tensor hard_negatives, "
      "Tensor candidates, Tensor self_index, float temperature, float margin_floor, str form, "
      "Tensor? learned_temperature) -> (Tensor losses, Tensor logsumexp)");
  library.def(
      "contrastive_loss_with_slopes(Tensor anchors, Tensor positives, Tensor hard_negatives, "
      "Tensor candidates, Tensor self_index, float temperature, float margin_floor, str form, "
      "Tensor? learned_temperature) -> (Tensor losses, Tensor saved)");
  library.def(
      "contrastive_loss_backward_from_slopes(Tensor grad, Tensor anchors, Tensor positives, "
      "Tensor hard_negatives, Tensor candidates, Tensor self_index, Tensor saved, "
      "float temperature, float margin_floor, str form, Tensor? learned_temperature) -> "
      "(Tensor anchors_grad, Tensor positives_grad, Tensor hard_negatives_grad, Tensor "
      "candidates_grad)");
  library.def(
      "contrastive_loss_backward(Tensor grad, Tensor anchors, Tensor positives, "
      "Tensor hard_negatives, Tensor candidates, Tensor self_index, Tensor logsumexp, "
      "float temperature, float margin_floor, str form, Tensor? learned_temperature) -> "
      "(Tensor anchors_grad, Tensor positives_grad, Tensor hard_negatives_grad, Tensor "
      "candidates_grad)");
  library.def(
      "batch_norm_act(Tensor maps, Tensor weight, Tensor bias, Tensor(a!)? running_mean, "
      "Tensor(b!)? running_variance, bool training, float momentum, float eps, bool relu=True, "
      "Tensor? residual=None, Tensor[]? squeeze=None) -> Tensor");
  library.def(
      "batch_norm_forward(Tensor maps, Tensor weight, Tensor bias, Tensor(a!)? running_mean, "
      "Tensor(b!)? running_variance, bool training, float momentum, float eps, Tensor? residual, "
      "bool relu) -> (Tensor output, Tensor statistics)");
  library.def(
      "batch_norm_backward(Tensor grad, Tensor maps, Tensor? output, Tensor weight, Tensor bias, "
      "Tensor statistics, bool training, bool relu) -> (Tensor maps_grad, Tensor masked, Tensor "
      "weight_grad, Tensor bias_grad)");
  library.def(
      "batch_norm_moments(Tensor maps, Tensor(a!)? running_mean, Tensor(b!)? running_variance, "
      "bool training, float momentum, float eps) -> (Tensor statistics, Tensor image_mean)");
  library.def(
      "batch_norm_apply(Tensor maps, Tensor weight, Tensor bias, Tensor statistics, Tensor? gate, "
      "Tensor? residual, bool relu) -> Tensor");
  library.def(
      "batch_norm_sums(Tensor grad, Tensor maps, Tensor? output, Tensor weight, Tensor bias, "
      "Tensor statistics, Tensor? gate, bool relu) -> (Tensor sums, Tensor masked)");
  library.def(
      "batch_norm_gradient(Tensor grad, Tensor maps, Tensor weight, Tensor bias, Tensor "
      "statistics, Tensor? gate, Tensor? pooled, Tensor sums, bool training, bool relu) -> "
      "Tensor");
}
