// Recordings are processed in parallel; within one the filter is sequential.
#include "frame_energy.h"

#include <cmath>

namespace usvs::cpu {
namespace {

constexpr double kPi = 3.14159265358979323846;

double mean(const float* samples, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += samples[i];
  return sum / static_cast<double>(count);
}

struct MeanRemoval {
  double level;

  double operator()(double sample) const { return sample - level; }
};

// Butterworth of order 2 by the bilinear transform, in the transposed direct form II.
class HighPass {
 public:
  // Starts in the state of a constant input `level`, so that the filter has no initial transient.
  HighPass(double cycles, double level) {
    const double warped = std::tan(kPi * cycles);
    gain_ = 1 / (1 + std::sqrt(2.0) * warped + warped * warped);
    one_back_ = 2 * (warped * warped - 1) * gain_;
    two_back_ = (1 - std::sqrt(2.0) * warped + warped * warped) * gain_;
    next_ = -gain_ * level;
    after_next_ = gain_ * level;
  }

  double operator()(double sample) {
    const double direct = gain_ * sample, output = direct + next_;
    next_ = after_next_ - 2 * direct - one_back_ * output;
    after_next_ = direct - two_back_ * output;
    return output;
  }

 private:
  double gain_, one_back_, two_back_, next_, after_next_;
};

template <typename Filter>
void compute_energy(const FrameEnergyParams& params, const float* samples, double* energy,
                    Filter filter) {
  for (int64_t frame = 0; frame < params.frames(); ++frame) {
    double power = 0;
    for (int64_t i = 0; i < params.length; ++i) {
      const double filtered = filter(*samples++);
      power += filtered * filtered;
    }
    energy[frame] = std::sqrt(power / static_cast<double>(params.length));
  }
}

}  // namespace

void frame_energy(const FrameEnergyParams& params, const Threads& threads) {
  if (params.frames() == 0) return;
  threads.for_each(params.recordings, [&](int64_t recording) {
    const float* samples = params.waveform + recording * params.samples;
    double* energy = params.energy + recording * params.frames();
    if (params.high_pass == 0) {
      const int64_t used = params.frames() * params.length;
      compute_energy(params, samples, energy, MeanRemoval{mean(samples, used)});
    } else {
      compute_energy(params, samples, energy,
                     HighPass(params.high_pass, mean(samples, params.length)));
    }
  });
}

}  // namespace usvs::cpu
