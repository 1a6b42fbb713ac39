// The saliency scores, on the CPU alone: elsewhere plain torch is fast enough.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "bindings/checks.h"
#include "saliency_scores.h"

namespace usvs {
namespace {

using torch::stable::contiguous;
using torch::stable::new_empty;

const Threads torch_threads{[](int64_t tasks, void* context, Threads::Body body) {
  torch::stable::parallel_for(0, tasks, 1,
                              [&](int64_t begin, int64_t end) { body(context, begin, end); });
}};

Tensor pair_score(Tensor prediction, Tensor truth, int64_t kind, double epsilon) {
  constexpr const char* op = "pair_score";
  check_shape(op, "prediction", prediction, -1, -1);
  check_dtype(op, "prediction", prediction, ScalarType::Float);
  check_shape(op, "truth", truth, prediction.size(0), prediction.size(1));
  check_dtype(op, "truth", truth, ScalarType::Float);
  check_range(op, "kind", kind, 0, static_cast<int64_t>(PairScore::correlation));
  check_range(op, "pixels", prediction.size(1), 1, int64_t{1} << 31);
  prediction = contiguous(prediction);
  truth = contiguous(truth);
  Tensor score = new_empty(prediction, {prediction.size(0)}, ScalarType::Double);
  cpu::pair_score({static_cast<const float*>(prediction.const_data_ptr()),
                   static_cast<const float*>(truth.const_data_ptr()),
                   static_cast<double*>(score.mutable_data_ptr()), prediction.size(0),
                   prediction.size(1), static_cast<PairScore>(kind), static_cast<float>(epsilon)},
                  torch_threads);
  return score;
}

Tensor fixation_statistics(Tensor values, Tensor fixated, bool ranks) {
  constexpr const char* op = "fixation_statistics";
  check_shape(op, "values", values, -1, -1);
  check_dtype(op, "values", values, ScalarType::Float);
  check_shape(op, "fixated", fixated, values.size(0), values.size(1));
  check_dtype(op, "fixated", fixated, ScalarType::Bool);
  check_range(op, "pixels", values.size(1), 1, int64_t{1} << 31);
  values = contiguous(values);
  fixated = contiguous(fixated);
  Tensor statistics = new_empty(values, {values.size(0), kFixationColumns}, ScalarType::Double);
  cpu::fixation_statistics(
      {static_cast<const float*>(values.const_data_ptr()),
       static_cast<const bool*>(fixated.const_data_ptr()),
       static_cast<double*>(statistics.mutable_data_ptr()), values.size(0), values.size(1), ranks},
      torch_threads);
  return statistics;
}

}  // namespace
}  // namespace usvs

STABLE_TORCH_LIBRARY_IMPL(usvs, CPU, library) {
  library.impl("pair_score", TORCH_BOX(&usvs::pair_score));
  library.impl("fixation_statistics", TORCH_BOX(&usvs::fixation_statistics));
}
