#include "arguments.h"
#include "cuda/log_spectrogram_backward.cu"
#include "cuda/log_spectrogram_forward.cu"

namespace {

usvs::LogSpectrogramInputs<float> inputs_of(const emulator::Arguments& arguments) {
  usvs::LogSpectrogramInputs<float> inputs{};
  inputs.waveform = arguments.buffer<const float>("waveform");
  if (inputs.waveform) inputs.waveform += arguments.integer("first");
  inputs.offsets = arguments.buffer<const int64_t>("offsets");
  inputs.clips = arguments.integer("clips");
  inputs.samples = arguments.integer("samples");
  inputs.waveform_stride = arguments.integer("waveform_stride");
  inputs.recording_samples = arguments.integer("recording_samples");
  inputs.n_fft = arguments.integer("n_fft");
  inputs.win_length = arguments.integer("win_length");
  inputs.hop_length = arguments.integer("hop_length");
  inputs.frames = arguments.integer("frames");
  inputs.eps = arguments.real("eps");
  return inputs;
}

}  // namespace

EMULATOR_ENTRY(forward) {
  const usvs::LogSpectrogramForwardParams<float> params{
      inputs_of(arguments), arguments.buffer<char>("output"), arguments.integer("bfloat16") != 0};
  usvs::cuda::log_spectrogram_forward(params, {});
}
EMULATOR_ENTRY(backward) {
  const usvs::LogSpectrogramBackwardParams<float> params{
      inputs_of(arguments), arguments.buffer<const float>("output_grad"),
      arguments.buffer<float>("waveform_grad")};
  usvs::cuda::log_spectrogram_backward(params, {});
}
