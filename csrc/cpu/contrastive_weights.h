// A block of anchors and a chunk of candidates: logits and their exponentials, the weights.
#pragma once
#include "cpu/contrastive_tile.h"
#include "cpu/vector_math.h"

namespace usvs::cpu::USVS_LEVEL {

// Whether weights are stored: not at all, or past the caches if they do not fit into these.
enum class WeightStore { none, cached, streaming };

template <WeightStore kind, typename Real>
USVS_INLINE void store_weight(Real* to, Vector<Real> value) {
  if constexpr (kind == WeightStore::cached) store(to, value);
  if constexpr (kind == WeightStore::streaming) store_streaming(to, value);
}
template <WeightStore kind>
USVS_INLINE void store_weight(BFloat16* to, Vector<float> value) {
  if constexpr (kind != WeightStore::none) {
    store_bfloat16<kind == WeightStore::streaming>(to, value);
  }
}

// largest [panel] = max(largest, the logits [count, panel]).
template <typename Real>
USVS_INLINE void update_largest(const Real* logits, int64_t count, Real* largest) {
  unroll<2>([&](auto half) USVS_INLINE_LAMBDA {
    constexpr int64_t begin = half * kLanes<Real>;
    Vector<Real> top = load(largest + begin);
    // A NaN is ignored here; it appears in the sum.
    for (int64_t k = 0; k < count; ++k) {
      top = larger<Real>(load(logits + k * kPanel<Real> + begin), top);
    }
    store(largest + begin, top);
  });
}

// weights [count, stride] = exp(logits [count, panel] - shift [panel]); sum [panel] = their sums.
template <WeightStore kind, typename Real, typename Weight>
USVS_INLINE void exponentials(const Real* logits, int64_t count, const Real* shift, Weight* weights,
                              int64_t stride, Real* sum) {
  constexpr int64_t lanes = kLanes<Real>;
  const Vector<Real> shifts[2] = {load(shift), load(shift + lanes)};
  Vector<Real> sums[2] = {};
  for (int64_t k = 0; k < count; ++k, logits += kPanel<Real>) {
    unroll<2>([&](auto half) USVS_INLINE_LAMBDA {
      const Vector<Real> value = exp(load(logits + half * lanes) - shifts[half]);
      store_weight<kind>(weights + k * stride + half * lanes, value);
      sums[half] += value;
    });
  }
  store(sum, sums[0]);
  store(sum + lanes, sums[1]);
}

enum class Shift { fixed, raise_to_largest };

// Sets the logits [count, panel] of anchors with themselves to -inf. Returns whether there are any.
template <typename Input, typename Real>
bool exclude_self(const ContrastiveLossInputs<Input>& params, int64_t anchor, int64_t anchors,
                  int64_t column, int64_t count, Real* logits) {
  bool found = false;
  for (int64_t j = 0; j < anchors; ++j) {
    const int64_t self = params.self_index[anchor + j] - column;
    if (self < 0 || self >= count) continue;
    logits[self * kPanel<Real> + j] = -std::numeric_limits<Real>::infinity();
    found = true;
  }
  return found;
}

// Sets the logits [count, panel] of one anchor to -inf.
template <typename Real>
void exclude_anchor(int64_t anchor, int64_t count, Real* logits) {
  for (int64_t k = 0; k < count; ++k)
    logits[k * kPanel<Real> + anchor] = -std::numeric_limits<Real>::infinity();
}

// weights = exp(logits - shift) of a chunk of `count` candidates, one column for each anchor, and
// their sums. Shift::raise_to_largest first raises the shift to the largest logit. Works on one
// panel of anchors at a time, whose logits stay in the cache; in the last one, rows behind the
// block's are computed as well, shift and sum included.
template <Shift kind, WeightStore weight_store, typename Input>
void chunk_weights(const ContrastiveLossInputs<Input>& params, const AnchorBlock<Input>& anchors,
                   ContrastiveBlock block, int64_t column, int64_t count,
                   ChunkScratch<Input>& scratch, WeightOf<Input>* weights,
                   typename Accumulated<Input>::type* shift,
                   typename Accumulated<Input>::type* sum) {
  using Real = typename Accumulated<Input>::type;
  constexpr int64_t panel_width = kPanel<Real>;
  constexpr bool raise = kind == Shift::raise_to_largest;
  const int64_t inner = element_count<Input>(params.width), stride = tile_stride(block.rows);
  const ElementOf<Input>* const rows = candidate_rows(params, column, count, scratch);
  Real* const logits = scratch.logits;
  Real scale[kChunkColumns];
  for (int64_t k = 0; k < count; ++k) scale[k] = Real(1 / params.temperature);
  for (int64_t i = 0; i < block.rows; i += panel_width) {
    alignas(kVectorBytes) Real largest[panel_width];
    std::memcpy(largest, shift + i, sizeof(largest));
    multiply<false>(rows, inner,
                    anchors.transposed + i * AnchorBlock<Input>::panel_rows(params.width), 0, count,
                    panel_width, inner,
                    Product<Real>{logits, panel_width, false, scale, raise ? largest : nullptr});
    const int64_t filled = block.rows - i < panel_width ? block.rows - i : panel_width;
    if (exclude_self(params, block.begin + i, filled, column, count, logits) && raise) {
      std::memcpy(largest, shift + i, sizeof(largest));
      update_largest(logits, count, largest);
    }
    if constexpr (!raise) {
      for (int64_t j = 0; j < filled; ++j) {
        if (shift[i + j] == kNoWeight<Real>) exclude_anchor(j, count, logits);
      }
    }
    // The other half of the last pair gets weight 0.
    if (kBFloat16Pairs<Input> && filled % 2) exclude_anchor(filled, count, logits);
    if constexpr (raise) std::memcpy(shift + i, largest, sizeof(largest));
    exponentials<weight_store>(logits, count, shift + i, weights + i, stride, sum + i);
  }
  if (weight_store == WeightStore::streaming) finish_streaming();
}

}  // namespace usvs::cpu::USVS_LEVEL
