// Both ops from C++: the log-spectrogram of a tone, and the loss of two pairs.
#include <cmath>
#include <cstdio>
#include <vector>

#include "usvs_kernels.h"

int main() {
  const double rate_hz = 24000, tone_hz = 3000;
  std::vector<float> waveform(14400);
  for (size_t i = 0; i < waveform.size(); ++i) {
    waveform[i] = static_cast<float>(std::sin(2 * 3.14159265358979 * tone_hz * i / rate_hz));
  }
  usvs::LogSpectrogramForwardParams<float> spectrogram{};
  spectrogram.waveform = waveform.data();
  spectrogram.clips = 1;
  spectrogram.samples = waveform.size();
  spectrogram.waveform_stride = spectrogram.samples;
  spectrogram.n_fft = 512;
  spectrogram.win_length = 240;
  spectrogram.hop_length = 120;
  spectrogram.frames = 256;
  spectrogram.eps = 1e-6;
  std::vector<float> pixels(spectrogram.bands() * spectrogram.frames);
  spectrogram.output = pixels.data();
  usvs::cpu::log_spectrogram_forward(spectrogram, usvs::calling_thread);
  int64_t loudest = 0;
  for (int64_t band = 0; band < spectrogram.bands(); ++band) {
    const int64_t middle = spectrogram.frames / 2;
    if (pixels[band * spectrogram.frames + middle] >
        pixels[loudest * spectrogram.frames + middle]) {
      loudest = band;
    }
  }
  std::printf("%g Hz is loudest in the band of %g Hz\n", tone_hz,
              (loudest + 1) * rate_hz / spectrogram.n_fft);  // band 0 is bin 1

  const std::vector<float> anchors{1, 0, 0, 1}, positives{2, 0, 0, 2}, hard_negatives{0, 1, 1, 0};
  const std::vector<float> candidates{1, 0, 0, 1, 2, 0, 0, 2};
  const std::vector<int64_t> self_index{0, 1};
  std::vector<float> losses(2), logsumexp(2);
  usvs::ContrastiveForwardParams<float> loss{};
  loss.anchors = anchors.data();
  loss.positives = positives.data();
  loss.hard_negatives = hard_negatives.data();
  loss.candidates = candidates.data();
  loss.self_index = self_index.data();
  loss.losses = losses.data();
  loss.logsumexp = logsumexp.data();
  loss.rows = 2;
  loss.columns = 4;
  loss.width = 2;
  loss.temperature = 1;
  loss.margin_floor = 1;
  loss.form = usvs::ContrastiveForm::eq2;
  usvs::cpu::contrastive_loss_forward(loss, usvs::calling_thread);
  std::printf("losses %.4f %.4f\n", losses[0], losses[1]);
}
