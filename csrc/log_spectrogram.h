// The log_spectrogram op: its parameters and the functions of every backend. Includes no torch.
//
//   B clips   S samples of a clip   N = n_fft   F = frames of the transform = 1 + S / hop_length
//   frame t covers samples [t * hop_length - N / 2, t * hop_length + N / 2), reflected at the ends:
//
//   sample   3 2 1 | 0 1 2 3 ...                        ... S-1 | S-2 S-3
//   frame 0  [---------- N ----------]
//                [ win_length ]            the Hann window is in the middle of N
//   frame 1        hop_length ->[---------- N ----------]
#pragma once
#include <cstdint>

#include "bfloat16.h"
#include "stream.h"
#include "threads.h"

namespace usvs {

// What both passes read.
template <typename Real>
struct LogSpectrogramInputs {
  const Real* waveform;       // [B, S] with rows waveform_stride elements apart, or one recording
  const int64_t* offsets;     // [B] start of each clip in the recording; null for rows
  int64_t clips;              // B
  int64_t samples;            // S
  int64_t waveform_stride;    // elements
  int64_t recording_samples;  // length of the recording that offsets refer to; 0 for rows
  int64_t n_fft;              // a power of two in 64 ... 4096
  int64_t win_length;         // samples, at most n_fft
  int64_t hop_length;         // samples
  int64_t frames;             // columns of the result, after the linear resize in time
  double eps;                 // added to the power before the logarithm

  int64_t transform_frames() const { return 1 + samples / hop_length; }
  int64_t bands() const { return n_fft / 2; }
  // Not offsets != nullptr: the pointer of a tensor of no offsets is null.
  bool is_recording() const { return recording_samples > 0; }
  // Samples before the clip that the first window covers; a clip must be longer, to be reflected.
  int64_t reach() const { return n_fft / 2 - (n_fft - win_length) / 2; }
  const Real* clip(int64_t index) const {
    return waveform + (offsets ? offsets[index] : index * waveform_stride);
  }
};

template <typename Real>
struct LogSpectrogramForwardParams : LogSpectrogramInputs<Real> {
  void* output;  // [B, 1, N / 2, frames] Real, or BFloat16 if bfloat16_output
  bool bfloat16_output;
};

template <typename Real>
struct LogSpectrogramBackwardParams : LogSpectrogramInputs<Real> {
  const Real* output_grad;  // [B, 1, N / 2, frames]
  Real* waveform_grad;      // [B, S] contiguous, or that of the recording
};

namespace cpu {
template <typename Real>
void log_spectrogram_forward(const LogSpectrogramForwardParams<Real>& params,
                             const Threads& threads);
template <typename Real>
void log_spectrogram_backward(const LogSpectrogramBackwardParams<Real>& params,
                              const Threads& threads);
}  // namespace cpu

// A pass is one kernel launch on the stream; it allocates nothing and does not wait.
namespace cuda {
void log_spectrogram_forward(const LogSpectrogramForwardParams<float>& params,
                             const Stream& stream);
void log_spectrogram_backward(const LogSpectrogramBackwardParams<float>& params,
                              const Stream& stream);
}  // namespace cuda
}  // namespace usvs
