// A block of anchors against a chunk of candidates: logits, their exponentials (the weights), and
// the two sums over the weights that are the gradients.
#pragma once
#include <type_traits>

#include "cpu/carver.h"
#include "cpu/contrastive_loss_simd.h"
#include "cpu/matrix_tile.h"
#include "cpu/pairs.h"
#include "cpu/vector_math.h"

namespace usvs::cpu::USVS_LEVEL {

static_assert(kChunkColumns % kPanel<float> == 0 && kChunkColumns % kPanel<double> == 0);
static_assert(kBlockRows % kTileRows == 0 && kBlockRows % 2 == 0 && kTileStride % 2 == 0);

// What is multiplied: pairs of bfloat16 where the machine can, numbers wide enough to sum
// elsewhere.
#if defined(__AVX512BF16__)
template <typename Input>
using ElementOf =
    std::conditional_t<std::is_same_v<Input, BFloat16>, Pair, typename Accumulated<Input>::type>;
#else
template <typename Input>
using ElementOf = typename Accumulated<Input>::type;
#endif
template <typename Input>
inline constexpr bool kPairs = std::is_same_v<ElementOf<Input>, Pair>;
// As which a weight is kept.
template <typename Input>
using WeightOf = std::conditional_t<kPairs<Input>, BFloat16, typename Accumulated<Input>::type>;

// Elements that hold `count` neighbours.
template <typename Input>
constexpr int64_t elements(int64_t count) {
  return kPairs<Input> ? (count + 1) / 2 : count;
}

template <typename Input>
struct AnchorBlock {
  using Real = typename Accumulated<Input>::type;
  ElementOf<Input>* rows;  // [rows, elements of width]: rows of the logits' product
  Real* panels;            // [kBlockRows] of them: panels of the candidates' gradient
  size_t bytes;

  AnchorBlock(int64_t width, void* memory) {
    Carver carver(memory);
    rows = carver.take<ElementOf<Input>>(kBlockRows * elements<Input>(width));
    panels = carver.take<Real>(kBlockRows * rounded_up(width, kPanel<Real>));
    bytes = carver.bytes();
  }

  void pack(const Input* anchors, int64_t count, int64_t width) {
    pack_panels(anchors, count, width, kBlockRows, panels);
    const int64_t step = elements<Input>(width);
    for (int64_t i = 0; i < count; ++i) {
      const Input* from = anchors + i * width;
      if constexpr (kPairs<Input>) {
        rows[i * step + step - 1] = Pair{0};
        std::memcpy(rows + i * step, from, width * sizeof(Input));
      } else {
        for (int64_t k = 0; k < width; ++k) rows[i * step + k] = widened(from[k]);
      }
    }
  }
};

template <typename Input>
struct ChunkScratch {
  using Real = typename Accumulated<Input>::type;
  using Element = ElementOf<Input>;
  Element* panels;           // candidates, panels over the width
  Element* transposed;       // the same, panels over the candidates, for the logits
  Element* scaled;           // anchors times their scale, panels over the width
  Element* turned;           // pairs only: the weights of two anchors side by side
  Real* tile;                // [rows, kTileStride] logits
  WeightOf<Input>* weights;  // [rows, kTileStride]; the tile itself, except for pairs
  size_t bytes;

  ChunkScratch(int64_t width, void* memory) {
    constexpr int64_t side = kPanel<Real>;
    const int64_t padded = rounded_up(width, side);
    Carver carver(memory);
    panels = carver.take<Element>(kChunkColumns * padded);
    transposed = carver.take<Element>(kChunkColumns * padded);
    scaled = carver.take<Element>(kBlockRows * padded);
    turned = carver.take<Element>(kPairs<Input> ? kBlockRows / 2 * kTileStride : 0);
    tile = carver.take<Real>(kBlockRows * kTileStride);
    if constexpr (kPairs<Input>) {
      weights = carver.take<BFloat16>(kBlockRows * kTileStride);
    } else {
      weights = tile;
    }
    bytes = carver.bytes();
  }

  // Logits become weights where they are kept, if they are as wide.
  Real* tile_for(WeightOf<Input>* kept) const {
    if constexpr (kPairs<Input>)
      return tile;
    else
      return kept;
  }
};

// Candidates, panels over the width, for the anchors' sum.
template <typename Input>
void pack_candidates(const ContrastiveLossParams<Input>& params, int64_t column, int64_t count,
                     ChunkScratch<Input>& scratch) {
  using Real = typename Accumulated<Input>::type;
  const Input* rows = params.candidates + column * params.width;
  if constexpr (kPairs<Input>) {
    pack_row_pairs(rows, count, params.width, kChunkColumns / 2, scratch.panels);
  } else {
    pack_panels(rows, count, params.width, rounded_up(count, kPanel<Real>), scratch.panels);
  }
}

// Candidates, panels over the candidates, for the logits.
template <typename Input>
void transpose_candidates(const ContrastiveLossParams<Input>& params, int64_t column, int64_t count,
                          ChunkScratch<Input>& scratch) {
  using Real = typename Accumulated<Input>::type;
  constexpr int64_t lanes = kLanes<Real>;
  const int64_t width = params.width, inner = elements<Input>(width);
  const Input* rows = params.candidates + column * width;
  // Pairs travel as float32 do: nothing computes with them on the way.
  constexpr bool as_they_are = std::is_same_v<Input, Real> || kPairs<Input>;
  const bool whole = as_they_are && (!kPairs<Input> || width % 2 == 0);
  transpose_rows(
      whole ? reinterpret_cast<const Real*>(rows) : nullptr, count, inner,
      reinterpret_cast<Real*>(scratch.transposed), [&](int64_t row, int64_t from, Real* square) {
        fill_zero(square, lanes * lanes);
        for (int64_t i = 0; i < lanes && row + i < count; ++i) {
          const Input* values = rows + (row + i) * width;
          if constexpr (kPairs<Input>) {
            const int64_t left = width - 2 * from, filled = left < 2 * lanes ? left : 2 * lanes;
            std::memcpy(square + i * lanes, values + 2 * from, filled * sizeof(Input));
          } else {
            for (int64_t k = 0; k < lanes && from + k < width; ++k) {
              square[i * lanes + k] = widened(values[from + k]);
            }
          }
        }
      });
}

// The logits of a block of anchors and a chunk of `count` candidates.
template <typename Input>
void chunk_logits(const ContrastiveLossParams<Input>& params, const AnchorBlock<Input>& anchors,
                  int64_t rows, int64_t column, int64_t count, ChunkScratch<Input>& scratch,
                  typename Accumulated<Input>::type* tile) {
  using Real = typename Accumulated<Input>::type;
  const int64_t inner = elements<Input>(params.width);
  transpose_candidates(params, column, count, scratch);
  Real scale[kBlockRows];
  for (int64_t i = 0; i < rows; ++i) scale[i] = Real(1 / params.temperature);
  multiply<false>(anchors.rows, inner, scratch.transposed,
                  rounded_up(inner, kLanes<Real>) * kPanel<Real>, rows, count, inner, tile,
                  kTileStride, false, scale);
}

// Nothing is left of the anchor itself, nor behind the chunk's end up to a whole vector.
template <typename Real>
USVS_INLINE void leave_out(Real* logits, int64_t count, int64_t self) {
  constexpr Real nothing = -std::numeric_limits<Real>::infinity();
  if (self >= 0 && self < count) logits[self] = nothing;
  for (int64_t j = count; j % kLanes<Real>; ++j) logits[j] = nothing;
}

template <typename Real>
USVS_INLINE Real largest_of(const Real* logits, int64_t count, Real largest) {
  const auto larger = [](Vector<Real> a, Vector<Real> b)
                          USVS_INLINE_LAMBDA { return a > b ? a : b; };
  Vector<Real> top = broadcast(largest);
  // A NaN is never larger: it is met again in the sum.
  for (int64_t j = 0; j < count; j += kLanes<Real>) top = larger(load(logits + j), top);
  return reduce<Real>(top, larger);
}

template <typename Real>
USVS_INLINE void store_weight(Real* to, Vector<Real> value) {
  store(to, value);
}
USVS_INLINE void store_weight(BFloat16* to, Vector<float> value) {
  store_bfloat16<false>(to, value);
}

// weights = exp(logits - shift), and their sum.
template <typename Real, typename Weight>
USVS_INLINE double exponentials(const Real* logits, int64_t count, Real shift, Weight* weights) {
  constexpr int64_t lanes = kLanes<Real>;
  Vector<Real> parts{};
  for (int64_t j = 0; j < count; j += lanes) {
    const Vector<Real> value = exp(load(logits + j) - shift);
    store_weight(weights + j, value);
    parts += value;
  }
  return reduce<Real>(parts,
                      [](Vector<Real> a, Vector<Real> b) USVS_INLINE_LAMBDA { return a + b; });
}

// The anchors of a block times their scale.
template <typename Input>
void scale_anchors(const AnchorBlock<Input>& anchors, int64_t rows, int64_t width,
                   const typename Accumulated<Input>::type* scale, ElementOf<Input>* scaled) {
  using Real = typename Accumulated<Input>::type;
  constexpr int64_t side = kPanel<Real>, lanes = kLanes<Real>;
  const Real* panel = anchors.panels;
  constexpr int64_t depth = kPairs<Input> ? 2 : 1;
  for (int64_t begin = 0; begin < width; begin += side) {
    for (int64_t i = 0; i < rows; i += depth) {
      for (int64_t half = 0; half < side; half += lanes) {
        const Vector<Real> first = load(panel + i * side + half) * scale[i];
        if constexpr (kPairs<Input>) {
          const Vector<Real> second =
              i + 1 < rows ? load(panel + (i + 1) * side + half) * scale[i + 1] : Vector<Real>{};
          store_pairs(scaled + i / 2 * side + half, first, second);
        } else {
          store(scaled + i * side + half, first);
        }
      }
    }
    panel += kBlockRows * side;
    scaled += kBlockRows / depth * side;
  }
}

// anchors_part = or += scale * weights times the candidates; candidates_grad = or += the weights
// transposed times the scaled anchors.
template <typename Input>
void chunk_products(const ContrastiveLossParams<Input>& params, const AnchorBlock<Input>& anchors,
                    int64_t rows, int64_t column, int64_t count, const WeightOf<Input>* weights,
                    const typename Accumulated<Input>::type* scale, ChunkScratch<Input>& scratch,
                    typename Accumulated<Input>::type* anchors_part, bool accumulate_part,
                    typename Accumulated<Input>::type* candidates_grad, int64_t grad_stride,
                    bool accumulate_grad) {
  using Real = typename Accumulated<Input>::type;
  using Element = ElementOf<Input>;
  constexpr int64_t side = kPanel<Real>;
  const int64_t padded = rounded_up(params.width, side), depth = kPairs<Input> ? 2 : 1;
  pack_candidates(params, column, count, scratch);
  scale_anchors(anchors, rows, params.width, scale, scratch.scaled);
  const Element* by_row = reinterpret_cast<const Element*>(weights);
  const int64_t length = kPairs<Input> ? kChunkColumns / 2 : rounded_up(count, side);
  multiply<false>(by_row, kTileStride / depth, scratch.panels, length * side, rows, params.width,
                  elements<Input>(count), anchors_part, padded, accumulate_part, scale);
  const Element* by_column = by_row;
  if constexpr (kPairs<Input>) {
    pair_rows(weights, rows, count, kTileStride, scratch.turned);
    by_column = scratch.turned;
  }
  multiply<true>(by_column, kTileStride, scratch.scaled, kBlockRows / depth * side, count,
                 params.width, elements<Input>(rows), candidates_grad, grad_stride,
                 accumulate_grad);
}

}  // namespace usvs::cpu::USVS_LEVEL
