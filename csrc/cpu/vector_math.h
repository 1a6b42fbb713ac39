// log and exp of vectors. Polynomials after Cephes (logf, expf); the double forms call libm lane by
// lane.
#pragma once
#include <cmath>
#include <limits>

#include "cpu/simd.h"

namespace usvs::cpu::USVS_LEVEL {

// ln(x) for normal x > 0, within 1 ulp of the result or 6e-8; +inf and NaN are returned as they
// came.
USVS_INLINE Vector<float> log(Vector<float> x) {
  using Ints = IntVector<float>;
  constexpr int32_t sqrt_half = 0x3f3504f3;
  const Ints exponent = ((Ints)x - sqrt_half) >> 23;
  const Vector<float> mantissa =
      (Vector<float>)((Ints)x - (exponent << 23));  // in [sqrt(1/2), sqrt(2))
  const Vector<float> r = mantissa - 1.0f;
  const Vector<float> r2 = r * r;
  // Two interleaved halves: a chain of nine multiply-adds would wait on itself.
  Vector<float> even = broadcast(7.0376836292e-2f), odd = broadcast(-1.1514610310e-1f);
  even = even * r2 + 1.1676998740e-1f;
  odd = odd * r2 - 1.2420140846e-1f;
  even = even * r2 + 1.4249322787e-1f;
  odd = odd * r2 - 1.6668057665e-1f;
  even = even * r2 + 2.0000714765e-1f;
  odd = odd * r2 - 2.4999993993e-1f;
  even = even * r2 + 3.3333331174e-1f;
  const Vector<float> tail = (even * r + (odd * r2 - 0.5f)) * r2;
  const Vector<float> result =
      __builtin_convertvector(exponent, Vector<float>) * 0.69314718056f + (tail + r);
  return x < std::numeric_limits<float>::infinity() ? result : x;
}

USVS_INLINE Vector<double> log(Vector<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) x[lane] = __builtin_log(x[lane]);
  return x;
}

// e^x for x <= 0 (and a little above), within 2 ulp; underflows to 0; NaN stays.
USVS_INLINE Vector<float> exp(Vector<float> x) {
  using Ints = IntVector<float>;
  constexpr float lowest = -87.0f;  // e^-87 is the last power that is still normal
  const Vector<float> clamped = x < lowest ? broadcast(lowest) : x;
  constexpr float to_integer = 12582912.0f;  // adding 1.5 * 2^23 rounds to an integer
  const Vector<float> shifted = clamped * 1.44269504089f + to_integer;
  const Vector<float> n = shifted - to_integer;
  const Vector<float> r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  Vector<float> p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + (r + 1.0f);
  const Vector<float> scale = (Vector<float>)(((Ints)shifted + 127) << 23);
  return x < lowest ? Vector<float>{} : p * scale;
}

USVS_INLINE Vector<double> exp(Vector<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) x[lane] = __builtin_exp(x[lane]);
  return x;
}

}  // namespace usvs::cpu::USVS_LEVEL
