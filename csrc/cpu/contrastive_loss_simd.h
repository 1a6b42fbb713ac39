// What every SIMD level offers to the contrastive loss. The work is cut into blocks of anchors and
// chunks of candidates by sizes alone, never by the number of threads, so that the same bits come
// out for any number of them.
#pragma once
#include <cstddef>

#include "contrastive_loss.h"

namespace usvs::cpu {

inline constexpr int64_t kBlockRows = 256;     // at max_elements
inline constexpr int64_t kChunkColumns = 252;  // a multiple of every level's tile rows
inline constexpr int64_t kMaxPanel = 32;       // a multiple of every level's panel

// From the logits of one candidate to those of the next, for `rows` anchors: whole panels, and not
// so many that candidates fall into the same few cache sets.
constexpr int64_t tile_stride(int64_t rows) {
  const int64_t padded = (rows + kMaxPanel - 1) / kMaxPanel * kMaxPanel;
  return padded % 64 ? padded : padded + 16;
}

// Anchors [begin, begin + rows) against candidates [column_begin, column_end).
struct ContrastiveBlock {
  int64_t begin, rows, column_begin, column_end;
};

// v.s / T; slope = g'(m), value = g(m), both 0 in a form without a margin.
struct ContrastiveMargin {
  double positive, slope, value;
};

// Weights are exponentials of logits: of every chunk a tile [kChunkColumns, tile_stride(rows)], a
// candidate's row by row, stored_weights between the two halves of a fused pass. What comes per
// chunk lies kBlockRows apart, from the block's first.
template <typename Input>
struct ContrastiveLevel {
  using Real = typename Accumulated<Input>::type;
  using Params = ContrastiveLossParams<Input>;

  size_t weight_bytes;
  int64_t (*padded_width)(int64_t width);
  size_t (*anchors_bytes)(const Params&);  // memory for one block of packed anchors
  size_t (*scratch_bytes)(const Params&);  // scratch of any call but pack_anchors, 64-byte aligned
  void (*pack_anchors)(const Params&, int64_t begin, int64_t rows, void* anchors);
  // Of every anchor of the block the largest logit, and the sum of exp(logit - largest).
  void (*forward)(const Params&, ContrastiveBlock, const void* anchors, Real* largest, double* sum,
                  void* scratch);
  // The same per chunk, and weights = exp(logit - largest of the chunk).
  void (*compute_weights)(const Params&, ContrastiveBlock, const void* anchors, void* weights,
                          Real* largest, double* sum, void* scratch);
  // With p = scale (of the anchor, per chunk) * weights: anchors_partial [rows, padded_width] = p
  // times the candidates, candidates_grad [columns, grad_stride] = or += p transposed times the
  // anchors.
  void (*multiply)(const Params&, ContrastiveBlock, const void* anchors, const void* weights,
                   const Real* scale, Real* anchors_partial, Real* candidates_grad,
                   int64_t grad_stride, bool accumulate, void* scratch);
  // The same with p = losses_grad / temperature * softmax, computed from the logsumexp.
  void (*backward)(const Params&, ContrastiveBlock, const void* anchors, Real* anchors_partial,
                   Real* candidates_grad, int64_t grad_stride, bool accumulate, void* scratch);

  ContrastiveMargin (*compute_margin)(const Params&, int64_t row);
  // Of a loss of some weight: sum [d] += the gradient that reaches its anchor through the positive
  // and the hard negative; and the gradients of these two.
  void (*add_pair_gradient)(const Params&, int64_t row, double weight, double margin_slope,
                            Real* sum);
  void (*pair_gradients)(const Params&, int64_t row, double weight, double margin_slope);
  // to = factor * values, round_up_to_line.
  void (*scale_and_store)(const Real* values, Real factor, int64_t elements, Input* to);
  // sum [padded width] of `parts` rows, `stride` elements apart, in their order; it may be the
  // first of them.
  void (*sum_partials)(const Real* part, int64_t parts, int64_t stride, int64_t width, Real* sum);
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
