// The saliency_statistics ops: sums over the pixels of maps, from which usvs.evaluation computes
// KL, SIM, CC, NSS and AUC.
//
//   pair:       prediction [P], ground truth [P]  -> one score for each map
//   fixations:  map [P], fixated pixels [P]       -> moments of the map, ranks of its fixated
//   pixels
#pragma once
#include <cstdint>

#include "threads.h"

namespace usvs {

enum class PairScore : int64_t { kl, similarity, similarity_min_max, correlation };

struct PairScoreParams {
  const float* prediction;    // [B, P]
  const float* ground_truth;  // [B, P]
  double* score;              // [B]
  int64_t maps;               // B
  int64_t pixels;             // P
  PairScore kind;
  float epsilon;  // of the KL divergence
};

// Columns of the statistics, in this order.
enum FixationColumn {
  kFixated,   // number of fixated pixels
  kValueSum,  // sum of the map over the fixated pixels
  kMean,      // of the map
  kSquares,   // sum of squared distances from the mean
  kConstant,  // 1 if all pixels are equal
  kAbove,     // number of pixels above a fixated pixel, summed over the fixated pixels
  kEqual,     // number of pixels equal to it, itself included, summed
  kOwnAbove,  // the same among the fixated pixels
  kOwnEqual,
  kLowestAbove,  // number of pixels that are not fixated and above the lowest fixated value
  kLowestEqual,  // and equal to it
  kLowestTied,   // number of fixated pixels with that value
  kFixationColumns
};

struct FixationStatisticsParams {
  const float* values;  // [B, P]
  const bool* fixated;  // [B, P]
  double* statistics;   // [B, kFixationColumns]
  int64_t maps;         // B
  int64_t pixels;       // P
  bool moments;         // compute the columns from kMean to kConstant
  bool ranks;           // compute the columns from kAbove on
};

constexpr int64_t kPairScores = static_cast<int64_t>(PairScore::correlation) + 1;

// All scores of a map, computed while it is in the cache.
struct SaliencyStatisticsParams {
  PairScoreParams pair;                // `score` is [B, kPairScores]; `kind` is ignored
  bool kinds[kPairScores];             // which scores to compute; the other columns are 0
  FixationStatisticsParams fixations;  // of the prediction
};

namespace cpu {
void pair_score(const PairScoreParams& params, const Threads& threads);
void fixation_statistics(const FixationStatisticsParams& params, const Threads& threads);
void saliency_statistics(const SaliencyStatisticsParams& params, const Threads& threads);
}  // namespace cpu
}  // namespace usvs
