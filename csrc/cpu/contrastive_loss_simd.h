// The functions that every SIMD level provides for the contrastive loss. The work is divided into
// blocks of anchors and chunks of candidates by the sizes alone, so that the result has the same
// bits for any number of threads.
#pragma once
#include <cstddef>
#include <limits>

#include "contrastive_loss.h"

namespace usvs::cpu {

inline constexpr int64_t kBlockRows = 256;     // rows of a block, at most
inline constexpr int64_t kChunkColumns = 252;  // a multiple of every level's tile rows
inline constexpr int64_t kMaxPanel = 32;       // a multiple of every level's panel

// Elements between the logits of one candidate and the next, for `rows` anchors: complete panels,
// and not a multiple of 64, which would place candidates in the same few cache sets.
constexpr int64_t tile_stride(int64_t rows) {
  const int64_t padded = (rows + kMaxPanel - 1) / kMaxPanel * kMaxPanel;
  return padded % 64 ? padded : padded + 16;
}

// In place of an anchor's logsumexp: its weights are 0, even if its logits are NaN.
template <typename Real>
constexpr Real kNoWeight = std::numeric_limits<Real>::infinity();

// Anchors [begin, begin + rows) against candidates [column_begin, column_end).
struct ContrastiveBlock {
  int64_t begin, rows, column_begin, column_end;
};

// positive = v.s / T, slope = g'(m), value = g(m); slope and value are 0 for ntxent, all three
// for logsumexp.
struct ContrastiveMargin {
  double positive, slope, value;
};

// Weights are exponentials of logits: for each chunk a tile [kChunkColumns, tile_stride(rows)], one
// row for each candidate, stored between the two halves of contrastive_loss_with_slopes. Results
// per chunk are kBlockRows apart, starting with the block's first chunk.
template <typename Input>
struct ContrastiveLevel {
  using Real = typename Accumulated<Input>::type;
  using Inputs = ContrastiveLossInputs<Input>;
  using BackwardParams = ContrastiveBackwardParams<Input>;

  size_t weight_bytes;
  int64_t (*padded_width)(int64_t width);
  size_t (*anchors_bytes)(const Inputs&);  // for one block of packed anchors
  size_t (*scratch_bytes)(const Inputs&);  // for every call except pack_anchors, 64-byte aligned
  void (*pack_anchors)(const Inputs&, int64_t begin, int64_t rows, void* anchors);
  // For each anchor of the block: the largest logit and the sum of exp(logit - largest).
  void (*forward)(const Inputs&, ContrastiveBlock, const void* anchors, Real* largest, double* sum,
                  void* scratch);
  // The same for each chunk, and weights = exp(logit - largest of the chunk), streaming: past the
  // caches.
  void (*compute_weights)(const Inputs&, ContrastiveBlock, const void* anchors, bool streaming,
                          void* weights, Real* largest, double* sum, void* scratch);
  // With p = scale (of the anchor, for each chunk) * weights: anchors_partial [rows, padded_width]
  // = p times the candidates; candidates_grad [columns, grad_stride] = or += p transposed times the
  // anchors.
  void (*multiply)(const Inputs&, ContrastiveBlock, const void* anchors, const void* weights,
                   const Real* scale, Real* anchors_partial, Real* candidates_grad,
                   int64_t grad_stride, bool accumulate, void* scratch);
  // The same with p = losses_grad / temperature * softmax, from the logsumexp.
  void (*backward)(const BackwardParams&, ContrastiveBlock, const void* anchors,
                   Real* anchors_partial, Real* candidates_grad, int64_t grad_stride,
                   bool accumulate, void* scratch);

  ContrastiveMargin (*compute_margin)(const Inputs&, int64_t row);
  // For a loss with the given weight: sum [d] += the gradient of its anchor through the positive
  // and the hard negative; and the gradients of these two.
  void (*add_pair_gradient)(const Inputs&, int64_t row, double weight, double margin_slope,
                            Real* sum);
  void (*pair_gradients)(const BackwardParams&, int64_t row, double weight, double margin_slope);
  // to = factor * values, rounded to Input.
  void (*scale_and_store)(const Real* values, Real factor, int64_t elements, Input* to);
  // sum [padded width] of `partials` rows that are `stride` elements apart, in order; may be the
  // first of them.
  void (*sum_partials)(const Real* first, int64_t partials, int64_t stride, int64_t width,
                       Real* sum);
};

#define USVS_DECLARE_CONTRASTIVE(level)                         \
  namespace level {                                             \
  extern const ContrastiveLevel<float> contrastive_float;       \
  extern const ContrastiveLevel<double> contrastive_double;     \
  extern const ContrastiveLevel<BFloat16> contrastive_bfloat16; \
  }
USVS_DECLARE_CONTRASTIVE(portable)
USVS_DECLARE_CONTRASTIVE(avx2)
USVS_DECLARE_CONTRASTIVE(avx512)
#undef USVS_DECLARE_CONTRASTIVE
namespace avx512_bf16 {
extern const ContrastiveLevel<BFloat16> contrastive_bfloat16;
}

}  // namespace usvs::cpu
