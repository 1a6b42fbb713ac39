// Vectors as wide as the level this file is compiled for. Everything lives in a namespace named
// after the level, so that the same source compiled three times is three different programs to the
// linker.
#pragma once
#include <cstdint>
#include <cstring>
#include <utility>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define USVS_INLINE inline __attribute__((always_inline))
#define USVS_INLINE_LAMBDA __attribute__((always_inline))

namespace usvs::cpu::USVS_LEVEL {

#if defined(USVS_VECTOR_BYTES)
inline constexpr int kVectorBytes =
    USVS_VECTOR_BYTES;  // wider than the machine's: the compiler splits
#elif defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <typename Real>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float Type __attribute__((vector_size(kVectorBytes)));
  typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
  typedef int32_t Integers __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  typedef double Type __attribute__((vector_size(kVectorBytes)));
  typedef double Unaligned __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
  typedef int64_t Integers __attribute__((vector_size(kVectorBytes)));
};

template <typename Real>
using Vector = typename VectorOf<Real>::Type;
template <typename Real>
using IntVector = typename VectorOf<Real>::Integers;
template <typename Real>
inline constexpr int kLanes = kVectorBytes / sizeof(Real);

template <typename Real>
USVS_INLINE Vector<Real> load(const Real* from) {
  return *reinterpret_cast<const typename VectorOf<Real>::Unaligned*>(from);
}
template <typename Real>
USVS_INLINE void store(Real* to, Vector<Real> value) {
  *reinterpret_cast<typename VectorOf<Real>::Unaligned*>(to) = value;
}
template <typename Real>
USVS_INLINE Vector<Real> broadcast(Real value) {
  return value - Vector<Real>{};  // value - 0 keeps every value, -0 and NaN included
}

// Writes past the caches; `to` is aligned to a whole vector.
template <typename Real>
USVS_INLINE void store_streaming(Real* to, Vector<Real> value) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), (__m512i)value);
#elif defined(__AVX2__)
  __m256i halves[kVectorBytes / 32];
  std::memcpy(halves, &value, sizeof(value));
  for (int i = 0; i < kVectorBytes / 32; ++i) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to) + i, halves[i]);
  }
#else
  store(to, value);
#endif
}
// Makes streamed writes visible to other threads.
USVS_INLINE void finish_streaming() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

template <typename Real>
USVS_INLINE void fill_zero(Real* to, int64_t elements) {
  std::memset(to, 0, elements * sizeof(Real));
}

// Calls function with 0, 1, ... N - 1 as compile-time constants.
template <int N, typename Function>
USVS_INLINE void unroll(Function&& function) {
  [&]<int... I>(std::integer_sequence<int, I...>) USVS_INLINE_LAMBDA {
    (function(std::integral_constant<int, I>{}), ...);
  }(std::make_integer_sequence<int, N>{});
}

// One step of a transpose: swaps the off-diagonal blocks of `Step` lanes between two rows.
template <int Step, typename V, int... L>
USVS_INLINE void swap_blocks(V& upper, V& lower, std::integer_sequence<int, L...>) {
  constexpr int lanes = sizeof...(L);
  const V a = upper, b = lower;
  upper = __builtin_shufflevector(a, b, ((L & Step) ? lanes + L - Step : L)...);
  lower = __builtin_shufflevector(a, b, ((L & Step) ? lanes + L : L + Step)...);
}

// Transposes a square of vectors in place.
template <typename Real>
USVS_INLINE void transpose(Vector<Real>* rows) {
  constexpr int lanes = kLanes<Real>;
  auto pass = [&](auto step) USVS_INLINE_LAMBDA {
    constexpr int s = decltype(step)::value;
    if constexpr (s < lanes) {
      unroll<lanes>([&](auto i) USVS_INLINE_LAMBDA {
        constexpr int row = decltype(i)::value;
        if constexpr (!(row & s)) {
          swap_blocks<s>(rows[row], rows[row + s], std::make_integer_sequence<int, lanes>{});
        }
      });
    }
  };
  pass(std::integral_constant<int, 8>{});
  pass(std::integral_constant<int, 4>{});
  pass(std::integral_constant<int, 2>{});
  pass(std::integral_constant<int, 1>{});
}

}  // namespace usvs::cpu::USVS_LEVEL
