// Vectors of the SIMD level that this file is compiled for. Everything is in a namespace named
// after the level, so that the linker keeps the code of the levels apart.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define USVS_INLINE inline __attribute__((always_inline))
#define USVS_INLINE_LAMBDA __attribute__((always_inline))

namespace usvs::cpu::USVS_LEVEL {

#if defined(USVS_VECTOR_BYTES)
inline constexpr int kVectorBytes =
    USVS_VECTOR_BYTES;  // wider than the registers: the compiler splits operations
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

// max(a, b), and b where either is NaN: one instruction, which the compiler does not generate from
// a > b ? a : b next to a constant.
template <typename Real>
USVS_INLINE Vector<Real> larger(Vector<Real> a, Vector<Real> b) {
  if constexpr (std::is_same_v<Real, float>) {
#if defined(__AVX512F__)
    return (Vector<float>)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    if constexpr (kVectorBytes == 32) return (Vector<float>)_mm256_max_ps((__m256)a, (__m256)b);
#endif
  }
  return a > b ? a : b;
}

// Non-temporal store; `to` is aligned to a complete vector.
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
// Makes non-temporal stores visible to other threads.
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

// Reduces all lanes with `join`, in a tree.
template <typename Real, typename Join, int... L>
USVS_INLINE Real reduce(Vector<Real> value, const Join& join, std::integer_sequence<int, L...>) {
  constexpr int lanes = sizeof...(L);
  auto fold = [&](auto step) USVS_INLINE_LAMBDA {
    constexpr int s = decltype(step)::value;
    if constexpr (s < lanes) {
      value = join(value, __builtin_shufflevector(value, value, ((L + s) % lanes)...));
    }
  };
  fold(std::integral_constant<int, 8>{});
  fold(std::integral_constant<int, 4>{});
  fold(std::integral_constant<int, 2>{});
  fold(std::integral_constant<int, 1>{});
  return value[0];
}
template <typename Real, typename Join>
USVS_INLINE Real reduce(Vector<Real> value, const Join& join) {
  return reduce<Real>(value, join, std::make_integer_sequence<int, kLanes<Real>>{});
}

// Loads 16-byte pieces that are `stride` elements apart into one vector.
template <typename Real>
USVS_INLINE Vector<Real> load_pieces(const Real* from, int64_t stride) {
#if defined(__AVX512F__)
  auto piece = [&](int i) USVS_INLINE_LAMBDA {
    return _mm_loadu_ps(reinterpret_cast<const float*>(from + i * stride));
  };
  __m512 pieces = _mm512_castps128_ps512(piece(0));
  pieces = _mm512_insertf32x4(pieces, piece(1), 1);
  pieces = _mm512_insertf32x4(pieces, piece(2), 2);
  return (Vector<Real>)_mm512_insertf32x4(pieces, piece(3), 3);
#elif defined(__AVX2__) && !defined(USVS_VECTOR_BYTES)
  // Written with intrinsics: the compiler would move both pieces through memory.
  const __m128 first = _mm_loadu_ps(reinterpret_cast<const float*>(from));
  const __m128 second = _mm_loadu_ps(reinterpret_cast<const float*>(from + stride));
  return (Vector<Real>)_mm256_insertf128_ps(_mm256_castps128_ps256(first), second, 1);
#else
  Vector<Real> pieces;
  unroll<kVectorBytes / 16>([&](auto i) USVS_INLINE_LAMBDA {
    std::memcpy(reinterpret_cast<char*>(&pieces) + 16 * i, from + i * stride, 16);
  });
  return pieces;
#endif
}

// Within every 16 bytes: interleaves the first (or second) halves of a and b, in units of `Unit`
// elements.
template <int Unit, bool Second, typename V, int... L>
USVS_INLINE V interleave(V a, V b, std::integer_sequence<int, L...>) {
  constexpr int lanes = sizeof...(L), piece = lanes * 16 / sizeof(V);
  return __builtin_shufflevector(
      a, b,
      ((L / Unit % 2) * lanes + L / piece * piece + (Second ? piece / 2 : 0) +
       L % piece / (2 * Unit) * Unit + L % Unit)...);
}
template <int Unit, bool Second, typename V>
USVS_INLINE V interleave(V a, V b) {
  return interleave<Unit, Second>(a, b,
                                  std::make_integer_sequence<int, sizeof(V) / sizeof(a[0])>{});
}

// to[j][i] = from[i][j] of a square of kLanes rows. Pieces of distant rows are combined when they
// are loaded, so that the rest happens within 16 bytes.
template <typename Real>
USVS_INLINE void transpose_square(const Real* from, int64_t from_stride, Real* to,
                                  int64_t to_stride) {
  using V = Vector<Real>;
  constexpr int piece = 16 / sizeof(Real);
  unroll<kLanes<Real> / piece>([&](auto group) USVS_INLINE_LAMBDA {
    constexpr int column = decltype(group)::value * piece;
    V rows[piece];
    unroll<piece>([&](auto i) USVS_INLINE_LAMBDA {
      rows[i] = load_pieces(from + i * from_stride + column, piece * from_stride);
    });
    Real* columns = to + column * to_stride;
    if constexpr (piece == 2) {
      store(columns, interleave<1, false>(rows[0], rows[1]));
      store(columns + to_stride, interleave<1, true>(rows[0], rows[1]));
    } else {
      const V a = interleave<1, false>(rows[0], rows[1]), b = interleave<1, true>(rows[0], rows[1]);
      const V c = interleave<1, false>(rows[2], rows[3]), d = interleave<1, true>(rows[2], rows[3]);
      store(columns, interleave<2, false>(a, c));
      store(columns + to_stride, interleave<2, true>(a, c));
      store(columns + 2 * to_stride, interleave<2, false>(b, d));
      store(columns + 3 * to_stride, interleave<2, true>(b, d));
    }
  });
}

}  // namespace usvs::cpu::USVS_LEVEL
