#include "cpu/spectrogram_plan.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <mutex>
#include <tuple>

namespace usvs::cpu {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int64_t kTileFrames = 128;  // their log-power fits into the second-level cache
constexpr size_t kMaxCachedPlans = 8;

int64_t round_up_to_lanes(int64_t count, int64_t lanes) {
  return (count + lanes - 1) / lanes * lanes;
}

int64_t first_stage_of(int64_t n_fft) {
  int64_t first = 8;
  while (first * first < n_fft) first *= 2;
  return first;
}

// The periodic Hann window; a window of one sample is 1, as in torch.
double hann(int64_t i, int64_t length) {
  return length == 1 ? 1 : 0.5 - 0.5 * std::cos(2 * kPi * i / length);
}

template <typename Real>
void plan_transform(SpectrogramPlan<Real>& plan, const LogSpectrogramInputs<Real>& params) {
  const int64_t n = params.n_fft;
  plan.first_stage = first_stage_of(n);
  plan.second_stage = n / plan.first_stage;
  plan.half_window = 2 * params.win_length <= n;
  plan.lead = (n - params.win_length) / 2 - n / 2;
  const int64_t points = plan.half_window ? plan.first_stage / 2 : plan.first_stage;
  for (int64_t n2 = 0; n2 < plan.second_stage; ++n2) {
    for (int64_t m = 0; m < points; ++m) {
      const int64_t i = n2 + plan.second_stage * m;
      const bool inside = i < params.win_length;
      plan.sample_index.push_back(
          inside ? i % params.hop_length * plan.block_stride + i / params.hop_length : 0);
      plan.weight_in_window.push_back(inside ? Real(hann(i, params.win_length)) : Real(0));
    }
  }
  for (int64_t k1 = 0; k1 < plan.first_stage; ++k1) {
    for (int64_t n2 = 0; n2 < plan.second_stage; ++n2) {
      const double angle = 2 * kPi * (k1 * n2 % n) / n;
      plan.twiddles.push_back(Real(std::cos(angle)));
      plan.twiddles.push_back(Real(-std::sin(angle)));
    }
  }
}

template <typename Real>
void plan_resize(SpectrogramPlan<Real>& plan, const LogSpectrogramInputs<Real>& params) {
  const int64_t frames = params.transform_frames(), unit = 2 * params.frames;
  int64_t first = 0;
  for (int64_t column = 0; column < params.frames; ++column) {
    // The position is numerator / unit, exact in integers: a column at a frame reads no other.
    const int64_t numerator =
        std::clamp<int64_t>((2 * column + 1) * frames - params.frames, 0, unit * (frames - 1));
    const int64_t low = numerator / unit, rest = numerator % unit;
    const int64_t high = rest > 0 ? low + 1 : low;
    if (column == 0 || high - first >= kTileFrames) {
      plan.tiles.push_back({column, column, low, 0, 0});
      first = low;
    }
    plan.tiles.back().column_end = column + 1;
    plan.tiles.back().frames = high - first + 1;
    plan.low.push_back(low - first);
    plan.high.push_back(high - first);
    plan.weight.push_back(Real(static_cast<double>(rest) / unit));
  }
  for (const SpectrogramTile& tile : plan.tiles) {
    plan.max_frames = std::max(plan.max_frames, tile.frames);
  }
}

template <typename Real>
void add_vector(SpectrogramPlan<Real>& plan, int64_t column, int64_t first_frame) {
  plan.vector_column.push_back(column);
  plan.aligned = plan.aligned && column % plan.lanes == 0;
  for (int64_t i = column; i < column + plan.lanes; ++i) {
    plan.vector_low.push_back(plan.low[i] - first_frame);
    plan.vector_high.push_back(plan.high[i] - first_frame);
    plan.vector_weight.push_back(plan.weight[i]);
  }
}

template <typename Real>
void add_single(SpectrogramPlan<Real>& plan, int64_t column, int64_t first_frame) {
  plan.single_column.push_back(column);
  plan.single_low.push_back(plan.low[column] - first_frame);
  plan.single_high.push_back(plan.high[column] - first_frame);
}

// Assigns every column of a tile to the step in which it is written, in a vector or as a single
// column.
template <typename Real>
void plan_steps(SpectrogramPlan<Real>& plan, SpectrogramTile& tile) {
  const int64_t lanes = plan.lanes, steps = round_up_to_lanes(tile.frames, lanes) / lanes;
  tile.step_begin = plan.steps.size();
  int64_t column = tile.column_begin;
  for (int64_t step = 0; step < steps; ++step) {
    const int64_t first_frame = (step - 1) * lanes, frames_end = (step + 1) * lanes;
    SpectrogramStep now{};
    now.vector_begin = plan.vector_column.size();
    now.single_begin = plan.single_column.size();
    while (column < tile.column_end && plan.high[column] < frames_end) {
      // The last vector of a tile may start early and write some columns twice.
      const int64_t begin = std::min(column, tile.column_end - lanes), last = begin + lanes - 1;
      const bool vector = (column - tile.column_begin) % lanes == 0 && begin >= tile.column_begin;
      if (vector && plan.low[begin] >= first_frame && plan.high[last] < frames_end) {
        add_vector(plan, begin, first_frame);
        column = last + 1;
      } else if (vector && plan.low[begin] >= frames_end - lanes &&
                 plan.high[last] < frames_end + lanes) {
        break;  // a complete vector in the next step
      } else {
        add_single(plan, column++, first_frame);
      }
    }
    now.vector_end = plan.vector_column.size();
    now.single_end = plan.single_column.size();
    plan.steps.push_back(now);
  }
}

template <typename Real>
SpectrogramPlan<Real> make_plan(const LogSpectrogramInputs<Real>& params, int64_t lanes) {
  SpectrogramPlan<Real> plan{};
  plan.aligned = true;
  plan.lanes = lanes;
  plan.block = std::min(params.hop_length, params.win_length);
  plan.overlap_hops = (params.win_length - 1) / params.hop_length;
  plan_resize(plan, params);
  for (SpectrogramTile& tile : plan.tiles) plan_steps(plan, tile);
  plan.frame_stride = round_up_to_lanes(plan.max_frames, lanes);
  plan.block_stride = round_up_to_lanes(plan.max_frames + plan.overlap_hops, lanes) + lanes;
  plan_transform(plan, params);
  return plan;
}

template <typename Real>
using PlanKey = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;

}  // namespace

template <typename Real>
std::shared_ptr<const SpectrogramPlan<Real>> spectrogram_plan(
    const LogSpectrogramInputs<Real>& params, int64_t lanes) {
  using Key = PlanKey<Real>;
  static std::mutex mutex;
  static std::deque<std::pair<Key, std::shared_ptr<const SpectrogramPlan<Real>>>> cached;
  const Key key{params.n_fft,  params.win_length,         params.hop_length,
                params.frames, params.transform_frames(), lanes};
  const std::lock_guard lock(mutex);
  for (const auto& [cached_key, plan] : cached) {
    if (cached_key == key) return plan;
  }
  cached.emplace_front(key,
                       std::make_shared<const SpectrogramPlan<Real>>(make_plan(params, lanes)));
  if (cached.size() > kMaxCachedPlans) cached.pop_back();
  return cached.front().second;
}

template std::shared_ptr<const SpectrogramPlan<float>> spectrogram_plan(
    const LogSpectrogramInputs<float>&, int64_t);
template std::shared_ptr<const SpectrogramPlan<double>> spectrogram_plan(
    const LogSpectrogramInputs<double>&, int64_t);

}  // namespace usvs::cpu
