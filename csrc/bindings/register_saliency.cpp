// The saliency scores, on the CPU only: on other devices plain torch is fast enough.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "bindings/checks.h"
#include "bindings/torch_threads.h"
#include "saliency_statistics.h"

namespace usvs {
namespace {

using torch::stable::contiguous;
using torch::stable::new_empty;

// Checks the maps of an op and makes them float32 [B, P], contiguous.
void check_maps(const char* op, const char* name, Tensor& maps, int64_t count, int64_t pixels) {
  check_shape(op, name, maps, count, pixels);
  check_dtype(op, name, maps, ScalarType::Float);
  check_range(op, "pixels", maps.size(1), 1, int64_t{1} << 31);
  maps = contiguous(maps);
}

void check_fixated(const char* op, Tensor& fixated, const Tensor& maps) {
  check_shape(op, "fixated", fixated, maps.size(0), maps.size(1));
  check_dtype(op, "fixated", fixated, ScalarType::Bool);
  fixated = contiguous(fixated);
}

PairScoreParams pair_params(const Tensor& prediction, const Tensor& ground_truth, double* score,
                            PairScore kind, double epsilon) {
  return {static_cast<const float*>(prediction.const_data_ptr()),
          static_cast<const float*>(ground_truth.const_data_ptr()),
          score,
          prediction.size(0),
          prediction.size(1),
          kind,
          static_cast<float>(epsilon)};
}

FixationStatisticsParams fixation_params(const Tensor& values, const Tensor& fixated,
                                         double* statistics, bool moments, bool ranks) {
  return {static_cast<const float*>(values.const_data_ptr()),
          static_cast<const bool*>(fixated.const_data_ptr()),
          statistics,
          values.size(0),
          values.size(1),
          moments,
          ranks};
}

Tensor pair_score(Tensor prediction, Tensor ground_truth, int64_t kind, double epsilon) {
  constexpr const char* op = "pair_score";
  check_maps(op, "prediction", prediction, -1, -1);
  check_maps(op, "ground_truth", ground_truth, prediction.size(0), prediction.size(1));
  check_range(op, "kind", kind, 0, kPairScores - 1);
  Tensor score = new_empty(prediction, {prediction.size(0)}, ScalarType::Double);
  cpu::pair_score(
      pair_params(prediction, ground_truth, static_cast<double*>(score.mutable_data_ptr()),
                  static_cast<PairScore>(kind), epsilon),
      torch_threads);
  return score;
}

Tensor fixation_statistics(Tensor values, Tensor fixated, bool ranks) {
  constexpr const char* op = "fixation_statistics";
  check_maps(op, "values", values, -1, -1);
  check_fixated(op, fixated, values);
  Tensor statistics = new_empty(values, {values.size(0), kFixationColumns}, ScalarType::Double);
  cpu::fixation_statistics(
      fixation_params(values, fixated, static_cast<double*>(statistics.mutable_data_ptr()), !ranks,
                      ranks),
      torch_threads);
  return statistics;
}

std::tuple<Tensor, Tensor> saliency_statistics(Tensor prediction, Tensor ground_truth,
                                               Tensor fixated, int64_t kinds, double epsilon) {
  constexpr const char* op = "saliency_statistics";
  check_maps(op, "prediction", prediction, -1, -1);
  check_maps(op, "ground_truth", ground_truth, prediction.size(0), prediction.size(1));
  check_fixated(op, fixated, prediction);
  check_range(op, "kinds", kinds, 0, (int64_t{1} << kPairScores) - 1);
  const int64_t maps = prediction.size(0);
  Tensor scores = new_empty(prediction, {maps, kPairScores}, ScalarType::Double);
  Tensor statistics = new_empty(prediction, {maps, kFixationColumns}, ScalarType::Double);
  SaliencyStatisticsParams params{
      pair_params(prediction, ground_truth, static_cast<double*>(scores.mutable_data_ptr()),
                  PairScore::kl, epsilon),
      {},
      fixation_params(prediction, fixated, static_cast<double*>(statistics.mutable_data_ptr()),
                      true, true)};
  for (int64_t kind = 0; kind < kPairScores; ++kind) params.kinds[kind] = kinds >> kind & 1;
  cpu::saliency_statistics(params, torch_threads);
  return {scores, statistics};
}

}  // namespace
}  // namespace usvs

STABLE_TORCH_LIBRARY_IMPL(usvs, CPU, library) {
  library.impl("pair_score", TORCH_BOX(&usvs::pair_score));
  library.impl("fixation_statistics", TORCH_BOX(&usvs::fixation_statistics));
  library.impl("saliency_statistics", TORCH_BOX(&usvs::saliency_statistics));
}
