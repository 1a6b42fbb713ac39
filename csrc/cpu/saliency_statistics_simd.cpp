// Sums over the pixels of one map. Lanes add up to 32 values in float32, and these sums are added
// in float64: as exact as float64 throughout, at the speed of float32.
#include "cpu/saliency_statistics_simd.h"

#include "cpu/vector_math.h"

namespace usvs::cpu::USVS_LEVEL {
namespace {

using Floats = Vector<float>;
constexpr int kLanesFloat = kLanes<float>;
constexpr int64_t kRun = 32 * kLanesFloat;  // pixels between additions to the float64 sums

USVS_INLINE Floats smaller_of(Floats a, Floats b) { return a < b ? a : b; }
USVS_INLINE Floats larger_of(Floats a, Floats b) { return a > b ? a : b; }

USVS_INLINE double sum_lanes(Floats lanes) {
  double sum = 0;
  for (int lane = 0; lane < kLanesFloat; ++lane) sum += lanes[lane];
  return sum;
}

// Calls body(first, valid, sums) on vectors of pixels; the last one may be incomplete.
template <int Sums, typename Body>
USVS_INLINE void sum_runs(int64_t pixels, double (&totals)[Sums], const Body& body) {
  for (int64_t begin = 0; begin < pixels; begin += kRun) {
    const int64_t end = begin + kRun < pixels ? begin + kRun : pixels;
    Floats sums[Sums] = {};
    int64_t i = begin;
    for (; i + kLanesFloat <= end; i += kLanesFloat) body(i, kLanesFloat, sums);
    if (i < end) body(i, static_cast<int>(end - i), sums);
    for (int s = 0; s < Sums; ++s) totals[s] += sum_lanes(sums[s]);
  }
}

// A vector of pixels; lanes behind the map hold `filler`.
USVS_INLINE Floats pixels_at(const float* values, int64_t first, int valid, float filler) {
  if (valid == kLanesFloat) return load(values + first);
  Floats result = broadcast(filler);
  for (int lane = 0; lane < valid; ++lane) result[lane] = values[first + lane];
  return result;
}

struct Range {
  double sum = 0;
  float lowest, highest;
};

// Two vectors at a time, so that additions overlap.
USVS_INLINE Range range_of(const float* values, int64_t pixels) {
  Range range;
  const int64_t pairs = pixels / (2 * kLanesFloat) * (2 * kLanesFloat);
  Floats low = broadcast(values[0]), high = low, low2 = low, high2 = low;
  for (int64_t begin = 0; begin < pairs; begin += kRun) {
    const int64_t end = begin + kRun < pairs ? begin + kRun : pairs;
    Floats sum = {}, sum2 = {};
    for (int64_t i = begin; i < end; i += 2 * kLanesFloat) {
      const Floats a = load(values + i), b = load(values + i + kLanesFloat);
      sum += a;
      sum2 += b;
      low = smaller_of(low, a);
      low2 = smaller_of(low2, b);
      high = larger_of(high, a);
      high2 = larger_of(high2, b);
    }
    range.sum += sum_lanes(sum + sum2);
  }
  low = smaller_of(low, low2);
  high = larger_of(high, high2);
  double rest[1] = {};
  sum_runs(pixels - pairs, rest, [&](int64_t i, int valid, Floats(&sums)[1]) USVS_INLINE_LAMBDA {
    sums[0] += pixels_at(values + pairs, i, valid, 0.0f);
    const Floats valid_pixels = pixels_at(values + pairs, i, valid, values[0]);
    low = smaller_of(low, valid_pixels);
    high = larger_of(high, valid_pixels);
  });
  range.sum += rest[0];
  range.lowest = low[0];
  range.highest = high[0];
  for (int lane = 1; lane < kLanesFloat; ++lane) {
    range.lowest = low[lane] < range.lowest ? low[lane] : range.lowest;
    range.highest = high[lane] > range.highest ? high[lane] : range.highest;
  }
  return range;
}

// A density is (value - lift) * scale + rest: lifted to a minimum of 0 if requested or negative,
// uniform if the map is zero.
struct Density {
  float lift, scale, rest;
};

USVS_INLINE Density density_of(const float* values, int64_t pixels, bool always_lift) {
  const Range range = range_of(values, pixels);
  Density density{always_lift || range.lowest < 0 ? range.lowest : 0.0f, 0.0f, 0.0f};
  const double sum = range.sum - static_cast<double>(density.lift) * pixels;
  if (range.highest > density.lift && sum > 0) {
    density.scale = static_cast<float>(1.0 / sum);
  } else {
    density.rest = static_cast<float>(1.0 / pixels);
  }
  return density;
}

double overlap(const PairScoreParams& params, const float* p, const float* q) {
  const bool lifted = params.kind == PairScore::similarity_min_max;
  const Density of_p = density_of(p, params.pixels, lifted);
  const Density of_q = density_of(q, params.pixels, lifted);
  const float epsilon = params.epsilon;
  double total[1] = {};
  auto both = [&](int64_t i, int valid, auto add, Floats& sum) USVS_INLINE_LAMBDA {
    Floats a = (pixels_at(p, i, valid, of_p.lift) - of_p.lift) * of_p.scale + of_p.rest;
    Floats b = (pixels_at(q, i, valid, of_q.lift) - of_q.lift) * of_q.scale + of_q.rest;
    for (int lane = valid; lane < kLanesFloat; ++lane) b[lane] = 0;  // pixels behind the map add 0
    sum += add(a, b);
  };
  if (params.kind == PairScore::kl) {
    sum_runs(params.pixels, total, [&](int64_t i, int valid, Floats(&sums)[1]) USVS_INLINE_LAMBDA {
      both(
          i, valid,
          [&](Floats a, Floats b)
              USVS_INLINE_LAMBDA { return b * log(b / (a + epsilon) + epsilon); },
          sums[0]);
    });
  } else {
    sum_runs(params.pixels, total, [&](int64_t i, int valid, Floats(&sums)[1]) USVS_INLINE_LAMBDA {
      both(
          i, valid, [](Floats a, Floats b) USVS_INLINE_LAMBDA { return smaller_of(a, b); },
          sums[0]);
    });
  }
  return total[0];
}

double correlation(const float* p, const float* q, int64_t pixels) {
  const Range of_p = range_of(p, pixels), of_q = range_of(q, pixels);
  if (of_p.lowest == of_p.highest || of_q.lowest == of_q.highest) return 0;
  const float mean_p = static_cast<float>(of_p.sum / pixels);
  const float mean_q = static_cast<float>(of_q.sum / pixels);
  double sums[5] = {};  // about a rounded mean; the rounding error is corrected below
  sum_runs(pixels, sums, [&](int64_t i, int valid, Floats(&parts)[5]) USVS_INLINE_LAMBDA {
    const Floats a = pixels_at(p, i, valid, mean_p) - mean_p;
    const Floats b = pixels_at(q, i, valid, mean_q) - mean_q;
    parts[0] += a;
    parts[1] += b;
    parts[2] += a * a;
    parts[3] += b * b;
    parts[4] += a * b;
  });
  const double n = static_cast<double>(pixels);
  const double spread_p = sums[2] - sums[0] * sums[0] / n,
               spread_q = sums[3] - sums[1] * sums[1] / n;
  return (sums[4] - sums[0] * sums[1] / n) / std::sqrt(spread_p * spread_q);
}

double pair(const PairScoreParams& params, int64_t map) {
  const float* p = params.prediction + map * params.pixels;
  const float* q = params.ground_truth + map * params.pixels;
  return params.kind == PairScore::correlation ? correlation(p, q, params.pixels)
                                               : overlap(params, p, q);
}

void moments(const float* values, int64_t pixels, double* mean, double* squares, bool* constant) {
  const Range range = range_of(values, pixels);
  const float about = static_cast<float>(range.sum / pixels);
  double sums[2] = {};
  sum_runs(pixels, sums, [&](int64_t i, int valid, Floats(&parts)[2]) USVS_INLINE_LAMBDA {
    const Floats away = pixels_at(values, i, valid, about) - about;
    parts[0] += away;
    parts[1] += away * away;
  });
  *mean = about + sums[0] / pixels;
  *squares = sums[1] - sums[0] * sums[0] / pixels;
  *constant = range.lowest == range.highest;
}

void count(const float* values, int64_t pixels, float threshold, int64_t* above, int64_t* equal) {
  const Floats level = broadcast(threshold);
  IntVector<float> over = {}, same = {};  // a comparison is -1 where it is true
  int64_t i = 0;
  for (; i + kLanesFloat <= pixels; i += kLanesFloat) {
    const Floats valid_pixels = load(values + i);
    over -= valid_pixels > level;
    same -= valid_pixels == level;
  }
  *above = *equal = 0;
  for (int lane = 0; lane < kLanesFloat; ++lane) {
    *above += over[lane];
    *equal += same[lane];
  }
  for (; i < pixels; ++i) {
    *above += values[i] > threshold;
    *equal += values[i] == threshold;
  }
}

}  // namespace

extern const SaliencyLevel saliency_level{pair, moments, count};

}  // namespace usvs::cpu::USVS_LEVEL
