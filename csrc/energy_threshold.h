// The energy_threshold op: the adaptive threshold of an energy-based voice-activity detector.
//
//   For each recording, frame by frame: the highest energy so far; a noise floor, which follows
//   every new lowest energy down and grows slowly in between; and a threshold between the two.
#pragma once
#include <cstdint>

#include "threads.h"

namespace usvs {

struct EnergyThresholdParams {
  const double* energy;     // [B, T]
  double* threshold;        // [B, T]
  int64_t recordings;       // B
  int64_t frames;           // T
  double ratio;             // threshold / floor where the floor is far below the highest energy
  double silence;           // lower bound of the floor
  double growth;            // factor of the floor per frame
  double growth_of_growth;  // factor of `growth` per frame; reset at a new lowest energy
  double scaling;           // weight of the floor against the highest energy; negative: adaptive
};

namespace cpu {
void energy_threshold(const EnergyThresholdParams& params, const Threads& threads);
}  // namespace cpu
}  // namespace usvs
