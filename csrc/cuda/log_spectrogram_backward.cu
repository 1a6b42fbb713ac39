#include "cuda/spectrogram_launch.h"
#include "kernels/log_spectrogram_backward.cuh"

namespace usvs::cuda {

void log_spectrogram_backward(const LogSpectrogramBackwardParams<float>& params,
                              const Stream& stream) {
  constexpr const char* name = "log_spectrogram_backward";
  with_n_fft(params.n_fft, [&](auto n_fft) {
    using Plan = BackwardPlan<n_fft.value>;
    SampleRows rows{};
    rows.length = params.is_recording() ? params.recording_samples : params.samples;
    rows.tiles = static_cast<unsigned>((rows.length + Plan::tile - 1) / Plan::tile);
    rows.clips_in_row = params.is_recording() ? static_cast<int>(params.clips) : 1;
    const unsigned blocks = grid_blocks(name, params.is_recording() ? 1 : params.clips, rows.tiles);
    if (blocks == 0) return;
    simt::launch(name, log_spectrogram_backward_kernel<n_fft.value>, blocks, kSpectrogramThreads,
                 Plan::shared_bytes(static_cast<int>(params.win_length)), stream,
                 spectrogram_shape(params), rows, params.output_grad, params.waveform_grad);
  });
}

}  // namespace usvs::cuda
