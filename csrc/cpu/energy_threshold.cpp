// Recordings are processed in parallel; within one the recursion is sequential.
#include "energy_threshold.h"

#include <algorithm>
#include <limits>

namespace usvs::cpu {
namespace {

void compute_threshold(const EnergyThresholdParams& params, const double* energy,
                       double* threshold) {
  double lowest = std::numeric_limits<double>::infinity(), highest = params.silence;
  double growth = params.growth;
  for (int64_t t = 0; t < params.frames; ++t) {
    const double value = energy[t];
    if (value > highest) highest = value;
    if (value < lowest) {
      lowest = std::max(value, params.silence);
      growth = params.growth;
    }
    if (lowest > highest) highest = lowest;
    threshold[t] = params.scaling < 0
                       ? lowest * (params.ratio - (params.ratio - 1.0) * lowest / highest)
                       : (1.0 - params.scaling) * highest + params.scaling * lowest;
    lowest *= growth;
    growth *= params.growth_of_growth;
  }
}

}  // namespace

void energy_threshold(const EnergyThresholdParams& params, const Threads& threads) {
  threads.for_each(params.recordings, [&](int64_t recording) {
    const int64_t first = recording * params.frames;
    compute_threshold(params, params.energy + first, params.threshold + first);
  });
}

}  // namespace usvs::cpu
