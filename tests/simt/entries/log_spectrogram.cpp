#include "arguments.h"
#include "cuda/log_spectrogram_backward.cu"
#include "cuda/log_spectrogram_forward.cu"

namespace {

usvs::LogSpectrogramParams<float> params_of(const emulator::Arguments& arguments) {
  usvs::LogSpectrogramParams<float> params{};
  params.waveform = arguments.buffer<const float>("waveform");
  if (params.waveform) params.waveform += arguments.integer("first");
  params.offsets = arguments.buffer<const int64_t>("offsets");
  params.output = arguments.buffer<char>("output");
  params.bfloat16_output = arguments.integer("bfloat16");
  params.output_grad = arguments.buffer<const float>("output_grad");
  params.waveform_grad = arguments.buffer<float>("waveform_grad");
  params.clips = arguments.integer("clips");
  params.samples = arguments.integer("samples");
  params.waveform_stride = arguments.integer("waveform_stride");
  params.recording_samples = arguments.integer("recording_samples");
  params.n_fft = arguments.integer("n_fft");
  params.win_length = arguments.integer("win_length");
  params.hop_length = arguments.integer("hop_length");
  params.frames = arguments.integer("frames");
  params.eps = arguments.real("eps");
  return params;
}

}  // namespace

EMULATOR_ENTRY(forward) { usvs::cuda::log_spectrogram_forward(params_of(arguments), {}); }
EMULATOR_ENTRY(backward) { usvs::cuda::log_spectrogram_backward(params_of(arguments), {}); }
