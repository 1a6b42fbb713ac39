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
  usvs::LogSpectrogramParams<float> picture{};
  picture.waveform = waveform.data();
  picture.clips = 1;
  picture.samples = waveform.size();
  picture.waveform_stride = picture.samples;
  picture.n_fft = 512;
  picture.win_length = 240;
  picture.hop_length = 120;
  picture.frames = 256;
  picture.eps = 1e-6;
  std::vector<float> pixels(picture.bands() * picture.frames);
  picture.output = pixels.data();
  usvs::cpu::log_spectrogram_forward(picture, usvs::calling_thread);
  int64_t loudest = 0;
  for (int64_t band = 0; band < picture.bands(); ++band) {
    const int64_t middle = picture.frames / 2;
    if (pixels[band * picture.frames + middle] > pixels[loudest * picture.frames + middle]) {
      loudest = band;
    }
  }
  std::printf("%g Hz is loudest in the band of %g Hz\n", tone_hz,
              (loudest + 1) * rate_hz / picture.n_fft);  // band 0 is bin 1

  const std::vector<float> anchors{1, 0, 0, 1}, positives{2, 0, 0, 2}, hard_negatives{0, 1, 1, 0};
  const std::vector<float> candidates{1, 0, 0, 1, 2, 0, 0, 2};
  const std::vector<int64_t> self_index{0, 1};
  std::vector<float> losses(2), logsumexp(2);
  usvs::ContrastiveLossParams<float> loss{};
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
