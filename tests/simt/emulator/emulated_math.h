// Numbers: bit casts, bfloat16, tf32, the arithmetic that CUDA names and C++ does not.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace emulator {

template <typename To, typename From>
To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace emulator

inline uint32_t __float_as_uint(float x) { return emulator::bits_as<uint32_t>(x); }
inline float __uint_as_float(uint32_t x) { return emulator::bits_as<float>(x); }
inline int __float_as_int(float x) { return emulator::bits_as<int>(x); }
inline float __int_as_float(int x) { return emulator::bits_as<float>(x); }
inline int __popc(uint32_t x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline uint32_t __brev(uint32_t x) {
  uint32_t reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1u) << (31 - i);
  return reversed;
}
inline float sinpif(float x) { return std::sin(3.14159265358979323846 * x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
template <typename T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
T max(T a, T b) {
  return a < b ? b : a;
}
template <typename T>
T __ldg(const T* address) {
  return *address;
}

namespace usvs::simt {

struct bf16 {
  uint16_t bits;
};
inline float to_float(bf16 x) { return __uint_as_float(uint32_t{x.bits} << 16); }
inline bf16 to_bf16(float x) {  // to nearest, ties to even; a NaN stays one
  const uint32_t bits = __float_as_uint(x);
  if (x != x) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
inline uint32_t pack_bf16(float low, float high) {
  return uint32_t{to_bf16(low).bits} | uint32_t{to_bf16(high).bits} << 16;
}
// To nearest, ties away. A NaN must stay one, or poison would become a number.
inline uint32_t to_tf32(float x) {
  const uint32_t bits = __float_as_uint(x);
  return x != x ? bits : (bits + 0x1000) & 0xffffe000;
}
inline float fast_exp(float x) {
  const float power = std::exp2(x * 1.4426950408889634f);
  return power < 1.17549435e-38f ? 0 : power;
}
inline float fast_divide(float a, float b) { return a / b; }

}  // namespace usvs::simt
