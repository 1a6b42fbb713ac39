// Products of small matrices that lie in the caches, the three of them that the contrastive loss
// needs.
//
// A panel is kPanel columns wide and as long as the product's inner size: element (k, j) at [k *
// kPanel + j]. A matrix of more columns is panel after panel, the last one filled up with zeros.
#pragma once
#include <array>

#include "contrastive_loss.h"
#include "cpu/simd.h"

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

USVS_INLINE int64_t rounded_up(int64_t count, int64_t multiple) {
  return (count + multiple - 1) / multiple * multiple;
}

// c [Rows, kPanel] = or += a [Rows, inner] times a panel. Element (i, k) of a lies at a[i *
// row_step + k * inner_step], one of the steps being 1.
template <int Rows, bool RowsAdjacent, typename Real>
void multiply_tile(const Real* a, int64_t step, const Real* panel, int64_t inner, Real* c,
                   int64_t c_stride, bool accumulate) {
  constexpr int lanes = kLanes<Real>;
  Vector<Real> sum[Rows][2] = {};
  for (int64_t k = 0; k < inner; ++k, panel += kPanel<Real>) {
    const Vector<Real> left = load(panel), right = load(panel + lanes);
    unroll<Rows>([&](auto i) USVS_INLINE_LAMBDA {
      const Real value = RowsAdjacent ? a[k * step + i] : a[i * step + k];
      sum[i][0] += value * left;
      sum[i][1] += value * right;
    });
  }
  unroll<Rows>([&](auto i) USVS_INLINE_LAMBDA {
    Real* row = c + i * c_stride;
    store(row, accumulate ? load(row) + sum[i][0] : sum[i][0]);
    store(row + lanes, accumulate ? load(row + lanes) + sum[i][1] : sum[i][1]);
  });
}

template <bool RowsAdjacent, typename Real, int... Rows>
constexpr auto tile_table(std::integer_sequence<int, Rows...>) {
  return std::array{&multiply_tile<Rows + 1, RowsAdjacent, Real>...};
}

// c [rows, columns] = or += a [rows, inner] times `columns` columns in panels of `inner` rows,
// panel_stride apart. Writes whole panels: c has room for columns rounded up.
template <bool RowsAdjacent, typename Real>
void multiply(const Real* a, int64_t step, const Real* panels, int64_t panel_stride, int64_t rows,
              int64_t columns, int64_t inner, Real* c, int64_t c_stride, bool accumulate) {
  static constexpr auto tiles =
      tile_table<RowsAdjacent, Real>(std::make_integer_sequence<int, kTileRows>{});
  for (int64_t j = 0; j < columns; j += kPanel<Real>, panels += panel_stride) {
    for (int64_t i = 0; i < rows; i += kTileRows) {
      const int64_t height = rows - i < kTileRows ? rows - i : kTileRows;
      tiles[height - 1](RowsAdjacent ? a + i : a + i * step, step, panels, inner,
                        c + i * c_stride + j, c_stride, accumulate);
    }
  }
}

USVS_INLINE float widened(float value) { return value; }
USVS_INLINE double widened(double value) { return value; }
USVS_INLINE float widened(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

// rows [count, width] into panels of `length` >= count rows; what is not given becomes zero.
template <typename Input, typename Real>
void pack_panels(const Input* rows, int64_t count, int64_t width, int64_t length, Real* panels) {
  constexpr int64_t side = kPanel<Real>;
  for (int64_t begin = 0; begin < width; begin += side, panels += length * side) {
    const int64_t filled = width - begin < side ? width - begin : side;
    for (int64_t i = 0; i < count; ++i) {
      const Input* from = rows + i * width + begin;
      Real* to = panels + i * side;
      if (filled == side) {
        for (int64_t j = 0; j < side; ++j) to[j] = widened(from[j]);
      } else {
        for (int64_t j = 0; j < side; ++j) to[j] = j < filled ? widened(from[j]) : Real(0);
      }
    }
    std::memset(panels + count * side, 0, (length - count) * side * sizeof(Real));
  }
}

// Panels of [length, width] into panels of its transpose [width, length]; length is a multiple of
// kPanel. The transposed panels are rounded_up(width, kPanel) rows long.
template <typename Real>
void transpose_panels(const Real* panels, int64_t width, int64_t length, Real* transposed) {
  constexpr int64_t lanes = kLanes<Real>, side = kPanel<Real>;
  const int64_t padded_width = rounded_up(width, side);
  for (int64_t row = 0; row < length; row += lanes) {
    Real* to = transposed + row / side * padded_width * side + row % side;
    for (int64_t column = 0; column < padded_width; column += lanes) {
      transpose_square(panels + column / side * length * side + row * side + column % side, side,
                       to + column * side, side);
    }
  }
}

}  // namespace usvs::cpu::USVS_LEVEL
