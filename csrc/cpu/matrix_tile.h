// Products of matrices that fit into the caches, for the contrastive loss.
//
// A panel is kPanel columns wide and as long as the inner dimension of the product: element (k, j)
// is at [k * kPanel + j]. A wider matrix is stored panel after panel, the last one padded with
// zeros. With AVX512-BF16 an element is a pair of neighbours along the inner dimension.
#pragma once
#include <array>

#include "contrastive_loss.h"
#include "cpu/vector_bfloat16.h"

namespace usvs::cpu::USVS_LEVEL {

template <typename Real>
inline constexpr int kPanel = 2 * kLanes<Real>;

// Rows of one register tile: its sums, two vectors of the panel and one broadcast value fill the
// registers.
#if defined(__AVX512F__)
inline constexpr int kTileRows = 14;
#else
inline constexpr int kTileRows = 6;
#endif

inline constexpr int64_t kLineBytes = 64;  // of a cache line

USVS_INLINE int64_t rounded_up(int64_t count, int64_t multiple) {
  return (count + multiple - 1) / multiple * multiple;
}

// Two bfloat16 numbers, the first in the lower half; their products are summed in float32.
struct BFloat16Pair {
  uint32_t bits;
};

// The element type of a product, the type of its sums, and the number of neighbours in one element.
template <typename Element_>
struct Arithmetic {
  using Sum = Element_;
  static constexpr int depth = 1;
  USVS_INLINE static Vector<Sum> load_panel(const Element_* from) { return load(from); }
  USVS_INLINE static void add_product(Vector<Sum>& sum, Element_ value, Vector<Sum> panel) {
    sum += value * panel;
  }
};
#if defined(__AVX512BF16__)
template <>
struct Arithmetic<BFloat16Pair> {
  using Sum = float;
  static constexpr int depth = 2;
  USVS_INLINE static __m512i load_panel(const BFloat16Pair* from) {
    return _mm512_loadu_si512(from);
  }
  USVS_INLINE static void add_product(Vector<float>& sum, BFloat16Pair value, __m512i panel) {
    const __m512bh left = (__m512bh)_mm512_set1_epi32(static_cast<int>(value.bits));
    sum = (Vector<float>)_mm512_dpbf16_ps((__m512)sum, left, (__m512bh)panel);
  }
};
#endif

// Where a product of matrices is written: to c = or += the product.
template <typename Sum>
struct Product {
  Sum* c;
  int64_t stride;
  bool accumulate = false;
  const Sum* scale = nullptr;  // [rows] factors of the product, unless null
  Sum* largest = nullptr;  // [columns], raised to the largest number of each; a NaN does not count

  Product at(int64_t row, int64_t column) const {
    return {c + row * stride + column, stride, accumulate, scale ? scale + row : nullptr,
            largest ? largest + column : nullptr};
  }
};

// Memory that is read soon.
struct UpcomingLines {
  const char* first = nullptr;
  int64_t count = 0;
};

// A tile [Rows, kPanel] of a product: a [Rows, inner] times a panel. Element (i, k) of a is at a[i
// * step + k] or, if RowsAdjacent, at a[k * step + i]. Prefetches a cache line of `next` in every
// step, and some of c in the first ones: all at once, they would keep loads waiting.
template <int Rows, bool RowsAdjacent, typename Element, typename Sum>
void multiply_tile(const Element* a, int64_t step, const Element* panel, int64_t inner,
                   Product<Sum> product, const char* next) {
  using A = Arithmetic<Element>;
  constexpr int lanes = kLanes<Sum>;
  constexpr int64_t steps_per_line = 4;
  Vector<Sum> sum[Rows][2] = {};
  // One pointer for three rows: an address is a pointer plus step times 0, 1 or 2. Fourteen
  // pointers do not fit into the registers, which the compiler is kept from trying.
  constexpr int pointers = RowsAdjacent ? 1 : (Rows + 2) / 3;
  const Element* from[pointers];
  for (int i = 0; i < pointers; ++i) from[i] = a + 3 * i * step;
  int64_t left_over = inner;
  const auto add_products = [&]() USVS_INLINE_LAMBDA {
    __builtin_prefetch(next);
    const auto left = A::load_panel(panel), right = A::load_panel(panel + lanes);
    unroll<Rows>([&](auto i) USVS_INLINE_LAMBDA {
      const Element value = RowsAdjacent ? from[0][i] : from[i / 3][i % 3 * step];
      A::add_product(sum[i][0], value, left);
      A::add_product(sum[i][1], value, right);
    });
    unroll<pointers>([&](auto i) USVS_INLINE_LAMBDA {
      from[i] += RowsAdjacent ? step : 1;
      asm("" : "+r"(from[i]));
    });
    next += kLineBytes;
    panel += kPanel<Sum>;
    --left_over;
  };
  if (product.accumulate) {
    const Sum* row = product.c;
    for (int64_t i = 0; i < Rows; ++i, row += product.stride) {
      for (int64_t j = 0; j < kPanel<Sum>; j += kLineBytes / int64_t{sizeof(Sum)}) {
        __builtin_prefetch(row + j, 1);
        for (int64_t n = 0; n < steps_per_line && left_over > 0; ++n) add_products();
      }
    }
  }
  while (left_over > 0) add_products();
  unroll<Rows>([&](auto i) USVS_INLINE_LAMBDA {
    Sum* row = product.c + i * product.stride;
    const Sum factor = product.scale ? product.scale[i] : Sum(1);
    unroll<2>([&](auto half) USVS_INLINE_LAMBDA {
      sum[i][half] = product.accumulate ? load(row + half * lanes) + sum[i][half] * factor
                                        : sum[i][half] * factor;
      store(row + half * lanes, sum[i][half]);
    });
  });
  if (product.largest) {
    unroll<2>([&](auto half) USVS_INLINE_LAMBDA {
      Vector<Sum> top = load(product.largest + half * lanes);
      unroll<Rows>([&](auto i) USVS_INLINE_LAMBDA { top = larger<Sum>(sum[i][half], top); });
      store(product.largest + half * lanes, top);
    });
  }
}

template <bool RowsAdjacent, typename Element, int... Rows>
constexpr auto tile_table(std::integer_sequence<int, Rows...>) {
  return std::array{
      &multiply_tile<Rows + 1, RowsAdjacent, Element, typename Arithmetic<Element>::Sum>...};
}

// The product of a [rows, inner] and `columns` columns in panels of `inner` rows, panel_stride
// apart. Writes complete panels: c must have room for columns rounded up. Prefetches the next rows
// of a, unless they are adjacent, and then `upcoming`.
template <bool RowsAdjacent, typename Element, typename Sum>
void multiply(const Element* a, int64_t step, const Element* panels, int64_t panel_stride,
              int64_t rows, int64_t columns, int64_t inner, const Product<Sum>& product,
              UpcomingLines upcoming = {}) {
  static constexpr auto tiles =
      tile_table<RowsAdjacent, Element>(std::make_integer_sequence<int, kTileRows>{});
  for (int64_t i = 0; i < rows; i += kTileRows) {
    const int64_t height = rows - i < kTileRows ? rows - i : kTileRows;
    const Element* panel = panels;
    for (int64_t j = 0; j < columns; j += kPanel<Sum>, panel += panel_stride) {
      const void* next = RowsAdjacent ? panel : a + (i + height) * step;
      if ((RowsAdjacent || j > 0) && upcoming.count > 0) {
        next = upcoming.first;
        upcoming = {upcoming.first + inner * kLineBytes, upcoming.count - inner};
      }
      tiles[height - 1](RowsAdjacent ? a + i : a + i * step, step, panel, inner, product.at(i, j),
                        static_cast<const char*>(next));
    }
  }
}

// Packs one row into panels of `length` rows, converted to Real and padded with zeros.
template <typename Input, typename Real>
USVS_INLINE void pack_row(const Input* row, int64_t width, int64_t length, Real* panels) {
  constexpr int64_t panel_width = kPanel<Real>;
  for (int64_t begin = 0; begin < width; begin += panel_width, panels += length * panel_width) {
    const int64_t filled = width - begin < panel_width ? width - begin : panel_width;
    if (filled == panel_width) {
      for (int64_t j = 0; j < panel_width; ++j) panels[j] = widen(row[begin + j]);
    } else {
      for (int64_t j = 0; j < panel_width; ++j)
        panels[j] = j < filled ? widen(row[begin + j]) : Real(0);
    }
  }
}

// Packs rows [count, width] into panels with room for `length` rows; rows behind `count` are not
// written.
template <typename Input, typename Real>
void pack_panels(const Input* rows, int64_t count, int64_t width, int64_t length, Real* panels) {
  constexpr int64_t panel_width = kPanel<Real>;
  for (int64_t i = 0; i < count; ++i) {
    pack_row(rows + i * width, width, length, panels + i * panel_width);
  }
}

// Packs rows [count, width] into panels over the rows: element (k, i) is element k of row i. Zeros
// follow the width up to complete vectors, and the rows up to a complete panel. `piece(row, column,
// to)` copies a square that is partly outside or has to be converted, zeros included.
template <typename Real, typename Piece>
void transpose_rows(const Real* rows, int64_t count, int64_t width, Real* panels,
                    const Piece& piece) {
  constexpr int64_t lanes = kLanes<Real>, panel_width = kPanel<Real>;
  const int64_t length = rounded_up(width, lanes);
  for (int64_t row = 0; row < rounded_up(count, panel_width); row += lanes) {
    Real* to = panels + row / panel_width * length * panel_width + row % panel_width;
    for (int64_t column = 0; column < width; column += lanes) {
      if (rows != nullptr && row + lanes <= count && column + lanes <= width) {
        transpose_square(rows + row * width + column, width, to + column * panel_width,
                         panel_width);
      } else {
        alignas(kVectorBytes) Real square[lanes * lanes];
        piece(row, column, square);
        transpose_square(square, lanes, to + column * panel_width, panel_width);
      }
    }
  }
}

}  // namespace usvs::cpu::USVS_LEVEL
