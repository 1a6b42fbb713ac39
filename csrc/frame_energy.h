// The frame_energy op: how loud a recording is, frame by frame, above hum and rumble.
#pragma once
#include <cstdint>

#include "threads.h"

namespace usvs {

struct FrameEnergyParams {
  const float* waveform;  // [B, S]
  double* energy;         // [B, S / length] root of the mean square of each whole frame
  int64_t recordings;     // B
  int64_t samples;        // S
  int64_t length;         // samples a frame
  double high_pass;       // in cycles a sample, below 1/2; 0: the recording's mean is taken off

  int64_t frames() const { return samples / length; }
};

namespace cpu {
void frame_energy(const FrameEnergyParams& params, const Threads& threads);
}  // namespace cpu
}  // namespace usvs
