// AVX-512 for a machine that has AVX2 only: the instructions that csrc/cpu names, written lane by
// lane, and vectors of 64 bytes that the compiler splits. It shows that the code of those levels is
// right, and nothing about its speed. The compiler is made to include it before anything else
// (USVS_EMULATE_AVX512 in CMakeLists.txt).
#pragma once
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#define __AVX512F__ 1

namespace usvs_emulated {

// Calls to(lane number) for every lane of a result of `To`s and returns them as a `Vector`.
template <typename Vector, typename To, typename Lane>
inline Vector each(const Lane& lane) {
  To lanes[sizeof(Vector) / sizeof(To)];
  for (unsigned i = 0; i < sizeof(Vector) / sizeof(To); ++i) lanes[i] = lane(i);
  Vector result;
  std::memcpy(&result, lanes, sizeof(result));
  return result;
}

template <typename Of, typename Vector>
inline Of lane(const Vector& vector, unsigned i) {
  Of value;
  std::memcpy(&value, reinterpret_cast<const char*>(&vector) + i * sizeof(Of), sizeof(Of));
  return value;
}

// The larger, and b where either is NaN.
inline __m512 max_ps(const __m512& a, const __m512& b) {
  return each<__m512, float>([&](unsigned i) {
    const float x = lane<float>(a, i), y = lane<float>(b, i);
    return x > y ? x : y;
  });
}

inline __m512 roundscale_ps(const __m512& a) {
  return each<__m512, float>([&](unsigned i) { return std::nearbyint(lane<float>(a, i)); });
}

// a * 2^floor(b), and denormal where it has to be.
inline __m512 scalef_ps(const __m512& a, const __m512& b) {
  return each<__m512, float>([&](unsigned i) {
    const float power = std::floor(lane<float>(b, i));
    return std::isnan(power) ? power : std::ldexp(lane<float>(a, i), static_cast<int>(power));
  });
}

inline __m512 getexp_ps(const __m512& a) {
  return each<__m512, float>([&](unsigned i) { return std::logb(lane<float>(a, i)); });
}

// In [1, 2), of the same sign.
inline __m512 getmant_ps(const __m512& a) {
  return each<__m512, float>([&](unsigned i) {
    const float x = lane<float>(a, i);
    if (std::isnan(x)) return x;
    if (std::isinf(x)) return std::copysign(1.0f, x);
    int exponent;
    return 2 * std::frexp(x, &exponent);
  });
}

inline __m512 insertf32x4(__m512 to, const __m128& piece, int place) {
  std::memcpy(reinterpret_cast<char*>(&to) + 16 * place, &piece, 16);
  return to;
}

inline __m512i load_si512(const void* from) {
  __m512i value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

inline void store_si512(void* to, const __m512i& value) { std::memcpy(to, &value, sizeof(value)); }

inline void stream_si512(void* to, const __m512i& value) {
  for (unsigned i = 0; i < 2; ++i) {
    _mm256_stream_si256(static_cast<__m256i*>(to) + i, lane<__m256i>(value, i));
  }
}

inline __m512i cvtepu16_epi32(const __m256i& a) {
  return each<__m512i, uint32_t>([&](unsigned i) -> uint32_t { return lane<uint16_t>(a, i); });
}

inline __m512i slli_epi32(const __m512i& a, int bits) {
  return each<__m512i, uint32_t>([&](unsigned i) { return lane<uint32_t>(a, i) << bits; });
}

inline __m512i or_si512(const __m512i& a, const __m512i& b) {
  return each<__m512i, uint32_t>(
      [&](unsigned i) { return lane<uint32_t>(a, i) | lane<uint32_t>(b, i); });
}

inline __m512i set1_epi32(int value) {
  return each<__m512i, int32_t>([&](unsigned) { return value; });
}

inline __m256i maskz_loadu_epi16(unsigned mask, const void* from) {
  return each<__m256i, uint16_t>([&](unsigned i) -> uint16_t {
    return mask >> i & 1 ? static_cast<const uint16_t*>(from)[i] : 0;
  });
}

inline float widened(uint16_t upper) {
  const uint32_t bits = static_cast<uint32_t>(upper) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// To the nearest, ties to even.
inline __m256i cvtneps_pbh(const __m512& a) {
  return each<__m256i, uint16_t>([&](unsigned i) -> uint16_t {
    const uint32_t bits = lane<uint32_t>(a, i);
    if (std::isnan(lane<float>(a, i))) return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  });
}

// sum + the products of both halves, the upper one first.
template <typename Pairs>
inline __m512 dpbf16_ps(const __m512& sum, const Pairs& a, const Pairs& b) {
  return each<__m512, float>([&](unsigned i) {
    float value = lane<float>(sum, i);
    for (unsigned half : {1u, 0u}) {
      value = std::fma(widened(lane<uint16_t>(a, 2 * i + half)),
                       widened(lane<uint16_t>(b, 2 * i + half)), value);
    }
    return value;
  });
}

}  // namespace usvs_emulated

#define _mm512_max_ps usvs_emulated::max_ps
#define _mm512_roundscale_ps(a, how) usvs_emulated::roundscale_ps(a)
#define _mm512_scalef_ps usvs_emulated::scalef_ps
#define _mm512_getexp_ps usvs_emulated::getexp_ps
#define _mm512_getmant_ps(a, interval, sign) usvs_emulated::getmant_ps(a)
#define _mm512_castps128_ps512(piece) usvs_emulated::insertf32x4(__m512{}, piece, 0)
#define _mm512_insertf32x4 usvs_emulated::insertf32x4
#define _mm512_loadu_si512 usvs_emulated::load_si512
#define _mm512_storeu_si512 usvs_emulated::store_si512
#define _mm512_stream_si512 usvs_emulated::stream_si512
#define _mm512_cvtepu16_epi32 usvs_emulated::cvtepu16_epi32
#define _mm512_slli_epi32 usvs_emulated::slli_epi32
#define _mm512_or_si512 usvs_emulated::or_si512
#define _mm512_set1_epi32 usvs_emulated::set1_epi32
#define _mm256_maskz_loadu_epi16 usvs_emulated::maskz_loadu_epi16
#define _mm512_cvtneps_pbh usvs_emulated::cvtneps_pbh
#define _mm512_dpbf16_ps usvs_emulated::dpbf16_ps
