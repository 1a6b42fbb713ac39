// Wide rows of channels-last maps: as many pixels as fill several vectors, so that few channels use
// complete vectors too. What a channel is multiplied with is repeated over the wide row.
#pragma once
#include "cpu/batch_norm_simd.h"
#include "cpu/scratch_allocator.h"
#include "cpu/vector_bfloat16.h"

namespace usvs::cpu::USVS_LEVEL {

constexpr int64_t kWideElements = 64;  // of a wide row, at least
constexpr int kRowsAtOnce = 4;  // wide rows that share the loads of what they are multiplied with

template <typename Element>
struct Arithmetic {
  using Real = Element;
};
template <>
struct Arithmetic<BFloat16> {
  using Real = float;
};
template <typename Element>
using RealOf = typename Arithmetic<Element>::Real;
template <typename Element>
using Wide = Vector<RealOf<Element>>;
template <typename Element>
inline constexpr int kWidth = kLanes<RealOf<Element>>;

template <typename Element>
USVS_INLINE Wide<Element> load_elements(const Element* from) {
  if constexpr (std::is_same_v<Element, BFloat16>) {
    typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));
    Halves halves;
    std::memcpy(&halves, from, sizeof(halves));
    return (Wide<Element>)(__builtin_convertvector(halves, Bits) << 16);
  } else {
    return load(from);
  }
}

template <typename Element>
USVS_INLINE void store_elements(Element* to, Wide<Element> value) {
  if constexpr (std::is_same_v<Element, BFloat16>) {
    store_bfloat16<false>(to, value);
  } else {
    store(to, value);
  }
}

// The first `valid` elements; the others are 0.
template <typename Element>
USVS_INLINE Wide<Element> load_valid(const Element* from, int64_t valid) {
  if (valid == kWidth<Element>) return load_elements(from);
  Element buffer[kWidth<Element>] = {};
  std::memcpy(buffer, from, valid * sizeof(Element));
  return load_elements(buffer);
}

template <typename Element>
USVS_INLINE void store_valid(Element* to, Wide<Element> value, int64_t valid) {
  if (valid == kWidth<Element>) {
    store_elements(to, value);
    return;
  }
  Element buffer[kWidth<Element>];
  store_elements(buffer, value);
  std::memcpy(to, buffer, valid * sizeof(Element));
}

template <typename Element>
int64_t pixels_of_wide_row(int64_t channels) {
  constexpr int64_t lanes = kWidth<Element>;
  int64_t pixels = 1;
  while (pixels * channels % lanes != 0) pixels *= 2;  // lanes are a power of two
  while (pixels * channels < kWideElements) pixels *= 2;
  return pixels;
}

// Arrays of one value for each element of a wide row.
template <typename Element>
struct Rows {
  using Real = RealOf<Element>;

  Rows(const NormGroup& group, void* scratch)
      : channels(group.channels),
        width(pixels_of_wide_row<Element>(group.channels) * group.channels),
        elements(group.rows * group.channels),
        allocator(scratch) {}

  Real* repeat(const double* values) {
    Real* wide = allocator.allocate<Real>(width);
    for (int64_t c = 0; c < channels; ++c) wide[c] = static_cast<Real>(values[c]);
    for (int64_t i = channels; i < width; ++i) wide[i] = wide[i - channels];
    return wide;
  }
  Real* zeros() {
    Real* wide = allocator.allocate<Real>(width);
    fill_zero(wide, width);
    return wide;
  }

  // Calls columns(j, each) for every vector j of a wide row; each(body) calls body(k, valid) for
  // every vector k of elements below it, in [begin, end).
  template <typename Columns>
  USVS_INLINE void visit(int64_t begin, int64_t end, const Columns& columns) const {
    constexpr int64_t lanes = kWidth<Element>;
    int64_t start = begin;
    for (; start + kRowsAtOnce * width <= end; start += kRowsAtOnce * width) {
      for (int64_t j = 0; j < width; j += lanes) {
        columns(j, [&](auto&& body) USVS_INLINE_LAMBDA {
          unroll<kRowsAtOnce>([&](auto i)
                                  USVS_INLINE_LAMBDA { body(start + i * width + j, lanes); });
        });
      }
    }
    for (; start < end; start += width) {
      const int64_t left = end - start < width ? end - start : width;
      for (int64_t j = 0; j < left; j += lanes) {
        columns(j, [&](auto&& body) USVS_INLINE_LAMBDA {
          body(start + j, left - j < lanes ? left - j : lanes);
        });
      }
    }
  }

  int64_t channels, width, elements;
  ScratchAllocator allocator;
};

template <typename Element>
size_t bytes_of(const NormGroup& group) {
  return 8 *
         (pixels_of_wide_row<Element>(group.channels) * group.channels * sizeof(RealOf<Element>) +
          64);
}

}  // namespace usvs::cpu::USVS_LEVEL
