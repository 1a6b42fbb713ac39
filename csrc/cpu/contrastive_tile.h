// A block of anchors and a chunk of candidates: packed, and the two matrix products with the
// weights that give the gradients.
#pragma once
#include <type_traits>

#include "cpu/bfloat16_pairs.h"
#include "cpu/contrastive_loss_simd.h"
#include "cpu/matrix_tile.h"
#include "cpu/scratch_allocator.h"

namespace usvs::cpu::USVS_LEVEL {

static_assert(kMaxPanel % kPanel<float> == 0 && kMaxPanel % kPanel<double> == 0);
static_assert(kBlockRows % kMaxPanel == 0 && kChunkColumns % kTileRows == 0);
static_assert(kBlockRows % 2 == 0 && kChunkColumns % 2 == 0);

// Element type of the matrix products: pairs of bfloat16 with AVX512-BF16, otherwise the type in
// which sums are computed.
#if defined(__AVX512BF16__)
template <typename Input>
using ElementOf = std::conditional_t<std::is_same_v<Input, BFloat16>, BFloat16Pair,
                                     typename Accumulated<Input>::type>;
#else
template <typename Input>
using ElementOf = typename Accumulated<Input>::type;
#endif
template <typename Input>
inline constexpr bool kBFloat16Pairs = std::is_same_v<ElementOf<Input>, BFloat16Pair>;
// Type in which a weight is stored.
template <typename Input>
using WeightOf =
    std::conditional_t<kBFloat16Pairs<Input>, BFloat16, typename Accumulated<Input>::type>;

// Number of elements that hold `count` neighbours.
template <typename Input>
constexpr int64_t element_count(int64_t count) {
  return kBFloat16Pairs<Input> ? (count + 1) / 2 : count;
}

template <typename Input>
struct AnchorBlock {
  using Real = typename Accumulated<Input>::type;
  ElementOf<Input>* transposed;  // panels over the anchors, for the logits
  Real* panels;                  // panels over the width, kBlockRows long, for the candidates' sums
  size_t bytes;

  AnchorBlock(int64_t width, void* memory) {
    ScratchAllocator allocator(memory);
    transposed = allocator.allocate<ElementOf<Input>>(kBlockRows * panel_rows(width));
    panels = allocator.allocate<Real>(kBlockRows * rounded_up(width, kPanel<Real>));
    bytes = allocator.bytes();
  }

  static int64_t panel_rows(int64_t width) {
    return rounded_up(element_count<Input>(width), kLanes<Real>);
  }

  void pack(const Input* anchors, int64_t count, int64_t width) {
    pack_panels(anchors, count, width, kBlockRows, panels);
    constexpr int64_t lanes = kLanes<Real>;
    // Pairs are moved as if they were float32; no arithmetic is done on them here.
    constexpr bool unconverted = std::is_same_v<Input, Real> || kBFloat16Pairs<Input>;
    const bool whole = unconverted && (!kBFloat16Pairs<Input> || width % 2 == 0);
    transpose_rows(whole ? reinterpret_cast<const Real*>(anchors) : nullptr, count,
                   element_count<Input>(width), reinterpret_cast<Real*>(transposed),
                   [&](int64_t row, int64_t from, Real* square) {
                     fill_zero(square, lanes * lanes);
                     for (int64_t i = 0; i < lanes && row + i < count; ++i) {
                       const Input* values = anchors + (row + i) * width;
                       if constexpr (kBFloat16Pairs<Input>) {
                         const int64_t left = width - 2 * from,
                                       filled = left < 2 * lanes ? left : 2 * lanes;
                         std::memcpy(square + i * lanes, values + 2 * from, filled * sizeof(Input));
                       } else {
                         for (int64_t k = 0; k < lanes && from + k < width; ++k) {
                           square[i * lanes + k] = widen(values[from + k]);
                         }
                       }
                     }
                   });
  }
};

template <typename Input>
struct ChunkScratch {
  using Real = typename Accumulated<Input>::type;
  using Element = ElementOf<Input>;
  static constexpr bool unconverted = std::is_same_v<Input, Element>;
  Element* rows;             // converted candidates, if they have to be converted
  Element* panels;           // candidates in panels over the width
  Element* scaled;           // scaled anchors in panels over the width
  Element* paired_weights;   // pairs only: the weights of two candidates interleaved
  Real* logits;              // [kChunkColumns, kPanel] of one panel of anchors
  WeightOf<Input>* weights;  // [kChunkColumns, tile_stride(rows)]
  size_t bytes;

  ChunkScratch(int64_t width, void* memory) {
    constexpr int64_t max_elements = kChunkColumns * tile_stride(kBlockRows);
    const int64_t padded = rounded_up(width, kPanel<Real>);
    ScratchAllocator allocator(memory);
    rows =
        allocator.allocate<Element>(unconverted ? 0 : kChunkColumns * element_count<Input>(width));
    panels = allocator.allocate<Element>(kChunkColumns * padded);
    scaled = allocator.allocate<Element>(kBlockRows * padded);
    paired_weights = allocator.allocate<Element>(kBFloat16Pairs<Input> ? max_elements / 2 : 0);
    logits = allocator.allocate<Real>(kChunkColumns * kPanel<Real>);
    weights = allocator.allocate<WeightOf<Input>>(max_elements);
    bytes = allocator.bytes();
  }
};

// Packs candidates into panels over the width, for the gradient of the anchors.
template <typename Input>
void pack_candidates(const ContrastiveLossInputs<Input>& params, int64_t column, int64_t count,
                     ChunkScratch<Input>& scratch) {
  const Input* rows = params.candidates + column * params.width;
  if constexpr (kBFloat16Pairs<Input>) {
    pack_row_pairs(rows, count, params.width, kChunkColumns / 2, scratch.panels);
  } else {
    pack_panels(rows, count, params.width, count, scratch.panels);
  }
}

// Returns the candidates row by row, for the logits.
template <typename Input>
const ElementOf<Input>* candidate_rows(const ContrastiveLossInputs<Input>& params, int64_t column,
                                       int64_t count, ChunkScratch<Input>& scratch) {
  const int64_t width = params.width, step = element_count<Input>(width);
  const Input* from = params.candidates + column * width;
  if constexpr (ChunkScratch<Input>::unconverted) {
    return from;
  } else {
    for (int64_t i = 0; i < count; ++i, from += width) {
      ElementOf<Input>* row = scratch.rows + i * step;
      if constexpr (kBFloat16Pairs<Input>) {
        row[step - 1] = BFloat16Pair{0};
        std::memcpy(row, from, width * sizeof(Input));
      } else {
        for (int64_t k = 0; k < width; ++k) row[k] = widen(from[k]);
      }
    }
    return scratch.rows;
  }
}

// scaled = anchors of a block times scale; 0 where the scale is 0, even if the anchor is NaN.
template <typename Input>
void scale_anchors(const AnchorBlock<Input>& anchors, int64_t rows, int64_t width,
                   const typename Accumulated<Input>::type* scale, ElementOf<Input>* scaled) {
  using Real = typename Accumulated<Input>::type;
  constexpr int64_t panel_width = kPanel<Real>, lanes = kLanes<Real>;
  const Real* panel = anchors.panels;
  constexpr int64_t depth = kBFloat16Pairs<Input> ? 2 : 1;
  const auto scaled_half = [&](int64_t row, int64_t half) USVS_INLINE_LAMBDA {
    return scale[row] == 0 ? Vector<Real>{} : load(panel + row * panel_width + half) * scale[row];
  };
  for (int64_t begin = 0; begin < width; begin += panel_width) {
    for (int64_t i = 0; i < rows; i += depth) {
      for (int64_t half = 0; half < panel_width; half += lanes) {
        const Vector<Real> first = scaled_half(i, half);
        if constexpr (kBFloat16Pairs<Input>) {
          const Vector<Real> second = i + 1 < rows ? scaled_half(i + 1, half) : Vector<Real>{};
          store_pairs(scaled + i / 2 * panel_width + half, first, second);
        } else {
          store(scaled + i * panel_width + half, first);
        }
      }
    }
    panel += kBlockRows * panel_width;
    scaled += kBlockRows / depth * panel_width;
  }
}

// anchors_partial = or += scale * weights times the candidates; candidates_grad = or += the weights
// times the scaled anchors.
template <typename Input>
void chunk_products(const ContrastiveLossInputs<Input>& params, const AnchorBlock<Input>& anchors,
                    int64_t rows, int64_t column, int64_t count, const WeightOf<Input>* weights,
                    const typename Accumulated<Input>::type* scale, ChunkScratch<Input>& scratch,
                    typename Accumulated<Input>::type* anchors_partial, bool accumulate_partial,
                    typename Accumulated<Input>::type* candidates_grad, int64_t grad_stride,
                    bool accumulate_grad) {
  using Real = typename Accumulated<Input>::type;
  using Element = ElementOf<Input>;
  constexpr int64_t panel_width = kPanel<Real>;
  const int64_t padded = rounded_up(params.width, panel_width),
                depth = kBFloat16Pairs<Input> ? 2 : 1;
  const int64_t stride = tile_stride(rows);
  scale_anchors(anchors, rows, params.width, scale, scratch.scaled);
  const Element* by_candidate = reinterpret_cast<const Element*>(weights);
  const Input* const candidates = params.candidates + column * params.width;
  multiply<false>(by_candidate, stride / depth, scratch.scaled, kBlockRows / depth * panel_width,
                  count, params.width, element_count<Input>(rows),
                  Product<Real>{candidates_grad, grad_stride, accumulate_grad},
                  {reinterpret_cast<const char*>(candidates),
                   count * params.width * int64_t{sizeof(Input)} / kLineBytes});
  pack_candidates(params, column, count, scratch);
  const Element* by_anchor = by_candidate;
  if constexpr (kBFloat16Pairs<Input>) {
    pair_rows(weights, count, rows, stride, scratch.paired_weights);
    by_anchor = scratch.paired_weights;
  }
  const int64_t length = kBFloat16Pairs<Input> ? kChunkColumns / 2 : count;
  multiply<true>(by_anchor, stride, scratch.panels, length * panel_width, rows, params.width,
                 element_count<Input>(count),
                 Product<Real>{anchors_partial, padded, accumulate_partial, scale});
}

}  // namespace usvs::cpu::USVS_LEVEL
