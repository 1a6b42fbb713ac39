// The energy_threshold op: the recursion of an energy detector of speech.
//
//   per recording, frame after frame: the highest energy so far, a floor that drops to every new
//   lowest energy and creeps up in between, and a threshold between the two.
#pragma once
#include <cstdint>

#include "threads.h"

namespace usvs {

struct EnergyThresholdParams {
  const double* energy;     // [B, T]
  double* threshold;        // [B, T]
  int64_t recordings;       // B
  int64_t frames;           // T
  double ratio;             // threshold over floor, far below the highest energy
  double silence;           // the floor never lies below this
  double growth;            // of the floor a frame
  double growth_of_growth;  // of the growth a frame, until a new lowest energy resets it
  double scaling;           // weight of the floor against the highest energy; below 0: adaptive
};

namespace cpu {
void energy_threshold(const EnergyThresholdParams& params, const Threads& threads);
}  // namespace cpu
}  // namespace usvs
