// The saliency scores: sums over the pixels of maps, from which usvs.evaluation.metrics makes KL,
// SIM, CC, NSS and AUC.
//
//   pair:      prediction [P], ground_truth [P]      -> one score a map
//   fixations: map [P], fixated pixels [P]    -> moments of the map and ranks of the fixated pixels
//   in it
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
  kFixated,   // N
  kValueSum,  // of the map over the fixated pixels
  kMean,      // of the map
  kSquares,   // sum of squared distances from the mean
  kConstant,  // 1 where all pixels are alike
  kAbove,     // pixels above a fixated one, summed over the fixated
  kEqual,     // pixels equal to it, itself among them, summed
  kOwnAbove,  // the same, fixated pixels alone
  kOwnEqual,
  kLowestAbove,  // pixels not fixated above the lowest fixated value
  kLowestEqual,  // and equal to it
  kLowestTied,   // fixated pixels of that value
  kFixationColumns
};

struct FixationStatisticsParams {
  const float* values;  // [B, P]
  const bool* fixated;  // [B, P]
  double* statistics;   // [B, kFixationColumns]
  int64_t maps;         // B
  int64_t pixels;       // P
  bool moments;         // the columns from kMean to kConstant are expected
  bool ranks;           // those from kAbove on
};

constexpr int64_t kPairScores = static_cast<int64_t>(PairScore::correlation) + 1;

// All that is expected of a map while it is in the cache.
struct SaliencyScoresParams {
  PairScoreParams pair;                // `score` is [B, kPairScores], `kind` is not read
  bool kinds[kPairScores];             // which are expected; the others' columns become 0
  FixationStatisticsParams fixations;  // of the prediction
};

namespace cpu {
void pair_score(const PairScoreParams& params, const Threads& threads);
void fixation_statistics(const FixationStatisticsParams& params, const Threads& threads);
void saliency_scores(const SaliencyScoresParams& params, const Threads& threads);
}  // namespace cpu
}  // namespace usvs
