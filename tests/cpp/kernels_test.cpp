// The kernels as a C++ program uses them, compared with direct sums in float64; run by ctest.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "usvs_kernels.h"

namespace {

constexpr double kPi = 3.14159265358979323846;

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

// Three threads, each a slice.
constexpr usvs::Threads three_threads{[](int64_t tasks, void* context, usvs::Threads::Body body) {
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < 3; ++i) {
    threads.emplace_back(body, context, tasks * i / 3, tasks * (i + 1) / 3);
  }
  for (std::thread& thread : threads) thread.join();
}};

std::vector<float> noise(size_t count, unsigned seed) {
  std::vector<float> values(count);
  for (float& value : values) {
    seed = seed * 1664525 + 1013904223;
    value = static_cast<float>(seed >> 8) / (1 << 23) - 1;
  }
  return values;
}

// ln(|X|^2 + eps) of one frame and bin, summed sample by sample.
double log_power(const float* clip, const usvs::LogSpectrogramInputs<float>& params, int64_t frame,
                 int64_t bin) {
  double re = 0, im = 0;
  for (int64_t i = 0; i < params.win_length; ++i) {
    int64_t at = frame * params.hop_length - params.win_length / 2 + i;
    at = at < 0 ? -at : at < params.samples ? at : 2 * (params.samples - 1) - at;
    const double window = 0.5 - 0.5 * std::cos(2 * kPi * i / params.win_length);
    const double angle = 2 * kPi * bin * i / params.n_fft;
    re += window * clip[at] * std::cos(angle);
    im -= window * clip[at] * std::sin(angle);
  }
  return std::log(re * re + im * im + params.eps);
}

void test_log_spectrogram() {
  const std::vector<float> recording = noise(3000, 1);
  const std::vector<int64_t> offsets{7, 900};
  usvs::LogSpectrogramForwardParams<float> params{};
  params.waveform = recording.data();
  params.offsets = offsets.data();
  params.recording_samples = recording.size();
  params.clips = 2;
  params.samples = 2000;
  params.n_fft = 256;
  params.win_length = 200;
  params.hop_length = 100;
  params.frames = params.transform_frames();  // as many columns as frames: nothing is resized
  params.eps = 1e-3;
  std::vector<float> one(2 * params.bands() * params.frames), three(one.size());
  params.output = one.data();
  usvs::cpu::log_spectrogram_forward(params, usvs::calling_thread);
  params.output = three.data();
  usvs::cpu::log_spectrogram_forward(params, three_threads);
  expect(one == three, "log_spectrogram: the same bits for any number of threads");
  for (int64_t clip = 0; clip < 2; ++clip) {
    for (int64_t frame = 0; frame < params.frames; ++frame) {
      for (int64_t bin = 1; bin <= params.bands(); ++bin) {
        const double expected = log_power(recording.data() + offsets[clip], params, frame, bin);
        const float got = one[(clip * params.bands() + bin - 1) * params.frames + frame];
        expect(std::abs(got - expected) < 1e-3, "log_spectrogram: equal to the direct sum");
      }
    }
  }
}

double similarity(const std::vector<float>& a, int64_t i, const std::vector<float>& b, int64_t j,
                  int64_t width) {
  double sum = 0;
  for (int64_t k = 0; k < width; ++k) sum += double{a[i * width + k]} * b[j * width + k];
  return sum;
}

void test_contrastive_loss() {
  constexpr int64_t rows = 5, columns = 700, width = 9;
  const auto anchors = noise(rows * width, 2), positives = noise(rows * width, 3);
  const auto negatives = noise(rows * width, 4), candidates = noise(columns * width, 5);
  const std::vector<int64_t> self_index{-1, 0, 3, 699, 512};
  std::vector<float> losses(rows), logsumexp(rows);
  usvs::ContrastiveForwardParams<float> params{};
  params.anchors = anchors.data();
  params.positives = positives.data();
  params.hard_negatives = negatives.data();
  params.candidates = candidates.data();
  params.self_index = self_index.data();
  params.losses = losses.data();
  params.logsumexp = logsumexp.data();
  params.rows = rows;
  params.columns = columns;
  params.width = width;
  params.temperature = 0.7;
  params.margin_floor = 1;
  params.form = usvs::ContrastiveForm::ntxent;
  usvs::cpu::contrastive_loss_forward(params, three_threads);
  for (int64_t i = 0; i < rows; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < columns; ++j) {
      if (j != self_index[i]) sum += std::exp(similarity(anchors, i, candidates, j, width) / 0.7);
    }
    const double expected = std::log(sum) - similarity(anchors, i, positives, i, width) / 0.7;
    expect(std::abs(losses[i] - expected) < 1e-5, "contrastive_loss: equal to the direct sum");
  }
}

}  // namespace

int main() {
  test_log_spectrogram();
  test_contrastive_loss();
  std::puts("kernels: all tests passed");
}
