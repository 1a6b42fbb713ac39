// The frame_energy op: the RMS of each frame of a recording after a high-pass filter.
#pragma once
#include <cstdint>

#include "threads.h"

namespace usvs {

struct FrameEnergyParams {
  const float* waveform;  // [B, S]
  double* energy;         // [B, S / length] RMS of each complete frame
  int64_t recordings;     // B
  int64_t samples;        // S
  int64_t length;         // samples per frame
  double high_pass;  // cycles per sample, below 1/2; 0: the recording's mean is subtracted instead

  int64_t frames() const { return samples / length; }
};

namespace cpu {
void frame_energy(const FrameEnergyParams& params, const Threads& threads);
}  // namespace cpu
}  // namespace usvs
