// float32 vectors to and from bfloat16, the upper half of their bits.
#pragma once
#include "bfloat16.h"
#include "cpu/simd.h"

namespace usvs::cpu::USVS_LEVEL {

USVS_INLINE float widen(float value) { return value; }
USVS_INLINE double widen(double value) { return value; }
USVS_INLINE float widen(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

// Rounds to nearest, ties to even. A NaN stays a NaN: its upper bits alone could be those of
// infinity.
USVS_INLINE uint16_t rounded_bfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// The bfloat16 numbers of one vector of float32.
typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));

USVS_INLINE Halves rounded_halves(Vector<float> value) {
#if defined(__AVX512BF16__)
  return (Halves)_mm512_cvtneps_pbh((__m512)value);
#else
  typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));
  const Bits bits = (Bits)value;
  const Bits rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const Bits quiet = bits >> 16 | 0x40;
  return __builtin_convertvector(value == value ? rounded : quiet, Halves);
#endif
}

// Writes one vector; if Streaming, with a non-temporal store to an address aligned to the size of
// the written data.
template <bool Streaming>
USVS_INLINE void store_bfloat16(BFloat16* to, Vector<float> value) {
  const Halves halves = rounded_halves(value);
#if defined(__AVX512F__)
  if constexpr (Streaming) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), (__m256i)halves);
    return;
  }
#endif
  std::memcpy(to, &halves, sizeof(halves));
}

}  // namespace usvs::cpu::USVS_LEVEL
