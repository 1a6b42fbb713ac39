// Pairs of bfloat16 numbers, as the dot-product instructions of AVX512-BF16 read them.
#pragma once
#include "cpu/matrix_tile.h"

#if defined(__AVX512BF16__)
namespace usvs::cpu::USVS_LEVEL {

// Pair j: element j of `first` in the lower half, element j of `second` in the upper half.
USVS_INLINE void store_pairs(BFloat16Pair* to, __m256i first, __m256i second) {
  const __m512i upper = _mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16);
  _mm512_storeu_si512(to, _mm512_or_si512(_mm512_cvtepu16_epi32(first), upper));
}
USVS_INLINE void store_pairs(BFloat16Pair* to, Vector<float> first, Vector<float> second) {
  store_pairs(to, (__m256i)rounded_halves(first), (__m256i)rounded_halves(second));
}
// Loads `filled` of 16 elements, zeros behind them; only zeros if `from` is null.
USVS_INLINE __m256i load_halves(const BFloat16* from, int64_t filled) {
  if (from == nullptr || filled <= 0) return _mm256_setzero_si256();
  if (filled >= 16) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << filled) - 1), from);
}

// Packs rows [count, width] into panels over the width that are `length` pairs long; a pair holds
// elements of two neighbouring rows.
inline void pack_row_pairs(const BFloat16* rows, int64_t count, int64_t width, int64_t length,
                           BFloat16Pair* panels) {
  constexpr int64_t panel_width = kPanel<float>, lanes = kLanes<float>;
  for (int64_t begin = 0; begin < width; begin += panel_width, panels += length * panel_width) {
    for (int64_t i = 0; i < count; i += 2) {
      const BFloat16* first = rows + i * width + begin;
      const BFloat16* second = i + 1 < count ? first + width : nullptr;
      for (int64_t half = 0; half < panel_width; half += lanes) {
        const int64_t filled = width - begin - half;
        store_pairs(panels + i / 2 * panel_width + half, load_halves(first + half, filled),
                    load_halves(second == nullptr ? nullptr : second + half, filled));
      }
    }
  }
}

// Pairs neighbouring rows of weights [rows, stride]: [rows / 2, stride].
inline void pair_rows(const BFloat16* weights, int64_t rows, int64_t count, int64_t stride,
                      BFloat16Pair* pairs) {
  for (int64_t i = 0; i < rows; i += 2) {
    const BFloat16* first = weights + i * stride;
    const BFloat16* second = i + 1 < rows ? first + stride : nullptr;
    for (int64_t j = 0; j < count; j += 16) {
      store_pairs(pairs + i / 2 * stride + j, load_halves(first + j, 16),
                  load_halves(second == nullptr ? nullptr : second + j, 16));
    }
  }
}

}  // namespace usvs::cpu::USVS_LEVEL
#endif
