// Saliency scores on the CPU: chooses the SIMD level; every map is one task.
#include "saliency_statistics.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/saliency_statistics_simd.h"
#include "cpu/simd_level.h"

namespace usvs::cpu {
namespace {

const SaliencyLevel& level_in_use() { return choose_level(USVS_LEVELS(saliency_level)); }

// Values of the fixated pixels. Few pixels are fixated, so cache lines without any are skipped.
std::vector<float> fixated_values(const FixationStatisticsParams& params, int64_t map) {
  constexpr int64_t line = 64;
  const float* values = params.values + map * params.pixels;
  const bool* fixated = params.fixated + map * params.pixels;
  std::vector<float> found;
  for (int64_t first = 0; first < params.pixels; first += line) {
    const int64_t end = std::min(first + line, params.pixels);
    if (end - first == line) {
      uint64_t words[line / 8], any = 0;
      std::memcpy(words, fixated + first, line);
      for (const uint64_t word : words) any |= word;
      if (!any) continue;
    }
    for (int64_t i = first; i < end; ++i) {
      if (fixated[i]) found.push_back(values[i]);
    }
  }
  return found;
}

void add_ranks(const FixationStatisticsParams& params, const SaliencyLevel& level, int64_t map,
               const std::vector<float>& found, double* row) {
  const float* values = params.values + map * params.pixels;
  const float lowest = *std::min_element(found.begin(), found.end());
  for (const float value : found) {
    int64_t above, equal, own_above, own_equal;
    level.count(values, params.pixels, value, &above, &equal);
    level.count(found.data(), static_cast<int64_t>(found.size()), value, &own_above, &own_equal);
    row[kAbove] += above;
    row[kEqual] += equal;
    row[kOwnAbove] += own_above;
    row[kOwnEqual] += own_equal;
    if (value == lowest) {
      row[kLowestAbove] = above - own_above;
      row[kLowestEqual] = equal - own_equal;
      row[kLowestTied] = own_equal;
    }
  }
}

void add_statistics(const FixationStatisticsParams& params, const SaliencyLevel& level,
                    int64_t map) {
  double* row = params.statistics + map * kFixationColumns;
  std::fill(row, row + kFixationColumns, 0.0);
  const std::vector<float> found = fixated_values(params, map);
  row[kFixated] = static_cast<double>(found.size());
  for (const float value : found) row[kValueSum] += value;
  if (params.ranks && !found.empty()) add_ranks(params, level, map, found, row);
  if (params.moments) {
    bool constant;
    level.moments(params.values + map * params.pixels, params.pixels, row + kMean, row + kSquares,
                  &constant);
    row[kConstant] = constant;
  }
}

}  // namespace

void pair_score(const PairScoreParams& params, const Threads& threads) {
  const SaliencyLevel& level = level_in_use();
  threads.for_each(params.maps, [&](int64_t map) { params.score[map] = level.pair(params, map); });
}

void fixation_statistics(const FixationStatisticsParams& params, const Threads& threads) {
  const SaliencyLevel& level = level_in_use();
  threads.for_each(params.maps, [&](int64_t map) { add_statistics(params, level, map); });
}

void saliency_statistics(const SaliencyStatisticsParams& params, const Threads& threads) {
  const SaliencyLevel& level = level_in_use();
  threads.for_each(params.pair.maps, [&](int64_t map) {
    PairScoreParams pair = params.pair;
    for (int64_t kind = 0; kind < kPairScores; ++kind) {
      pair.kind = static_cast<PairScore>(kind);
      pair.score[map * kPairScores + kind] = params.kinds[kind] ? level.pair(pair, map) : 0.0;
    }
    add_statistics(params.fixations, level, map);
  });
}

}  // namespace usvs::cpu
