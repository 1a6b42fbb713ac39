// What every SIMD level offers to the contrastive loss. The work is cut into blocks of anchors and
// chunks of candidates by sizes alone, never by the number of threads, so that the same bits come
// out for any number of them.
#pragma once
#include <cstddef>

#include "contrastive_loss.h"

namespace usvs::cpu {

inline constexpr int64_t kBlockRows = 252;     // a multiple of every level's tile rows
inline constexpr int64_t kChunkColumns = 512;  // a multiple of every level's panel
inline constexpr int64_t kTileStride =
    kChunkColumns + 16;  // not a power of two: rows fall into different cache sets

// Anchors [begin, begin + rows) against candidates [column_begin, column_end).
struct ContrastiveBlock {
  int64_t begin, rows, column_begin, column_end;
};

template <typename Input>
struct ContrastiveLevel {
  using Real = typename Accumulated<Input>::type;
  using Params = ContrastiveLossParams<Input>;

  int64_t (*padded_width)(int64_t width);
  size_t (*forward_bytes)(const Params&);   // scratch of one forward call, 64-byte aligned
  size_t (*backward_bytes)(const Params&);  // scratch of one backward call
  size_t (*anchors_bytes)(const Params&);   // memory for one block of packed anchors
  // Of every anchor of the block the largest logit, and the sum of exp(logit - largest).
  void (*forward)(const Params&, ContrastiveBlock, Real* largest, double* sum, void* scratch);
  void (*pack_anchors)(const Params&, int64_t begin, int64_t rows, void* anchors);
  // With p = losses_grad / temperature * softmax: anchors_part [rows, padded_width] = p times the
  // candidates, candidates_grad [columns, grad_stride] = or += p transposed times the anchors.
  void (*backward)(const Params&, ContrastiveBlock, const void* anchors, Real* anchors_part,
                   Real* candidates_grad, int64_t grad_stride, bool accumulate, void* scratch);
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

}  // namespace usvs::cpu
