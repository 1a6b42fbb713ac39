// Shared by the launchers of both passes.
#pragma once
#include <algorithm>
#include <limits>
#include <type_traits>

#include "kernels/spectrogram_frames.cuh"
#include "log_spectrogram.h"

namespace usvs::cuda {

constexpr int64_t kMaxSamples = 1 << 30;

inline SpectrogramShape spectrogram_shape(const LogSpectrogramInputs<float>& params) {
  if (params.samples >= kMaxSamples) {
    throw std::runtime_error(
        "usvs: log_spectrogram: expected clips of less than 2^30 samples, got " +
        std::to_string(params.samples));
  }
  SpectrogramShape shape{};
  shape.waveform = params.waveform;
  shape.offsets = params.offsets;
  shape.row_stride = params.waveform_stride;
  shape.last_offset = params.recording_samples - params.samples;
  shape.samples = static_cast<int>(params.samples);
  shape.transform_frames = static_cast<int>(params.transform_frames());
  shape.hop_length = static_cast<int>(params.hop_length);
  shape.win_length = static_cast<int>(params.win_length);
  shape.lead = static_cast<int>(params.reach());
  shape.columns = static_cast<int>(params.frames);
  shape.eps = static_cast<float>(params.eps);
  shape.per_column_unit = 0.5 / static_cast<double>(shape.columns);
  shape.per_frame_unit = 0.5 / static_cast<double>(shape.transform_frames);
  shape.per_window = 1.0 / static_cast<double>(shape.win_length);
  return shape;
}

inline unsigned grid_blocks(const char* name, int64_t groups, int64_t blocks_per_group) {
  if (groups > std::numeric_limits<int32_t>::max() / std::max<int64_t>(blocks_per_group, 1)) {
    throw std::runtime_error(std::string("usvs: ") + name +
                             ": expected a batch that fits 2^31 blocks");
  }
  return static_cast<unsigned>(groups * blocks_per_group);
}

// Calls function(n_fft as a compile-time constant).
template <typename Function>
void with_n_fft(int64_t n_fft, const Function& function) {
  switch (n_fft) {
    case 64:
      return function(std::integral_constant<int, 64>{});
    case 128:
      return function(std::integral_constant<int, 128>{});
    case 256:
      return function(std::integral_constant<int, 256>{});
    case 512:
      return function(std::integral_constant<int, 512>{});
    case 1024:
      return function(std::integral_constant<int, 1024>{});
    case 2048:
      return function(std::integral_constant<int, 2048>{});
    case 4096:
      return function(std::integral_constant<int, 4096>{});
  }
  throw std::runtime_error("usvs: log_spectrogram: n_fft: expected a power of two in 64 ... 4096");
}

}  // namespace usvs::cuda
