// log and exp of vectors. Polynomials of Cephes (logf, expf); the float64 versions call libm for
// each lane.
#pragma once
#include <cmath>
#include <limits>

#include "cpu/simd.h"

namespace usvs::cpu::USVS_LEVEL {

// ln(x) for x in [1/2, 1], exact to double precision, at compile time.
constexpr double log_of_constant(double x) {
  const double y = (x - 1) / (x + 1);
  double power = y, sum = 0;
  for (int i = 1; i < 60; i += 2, power *= y * y) sum += power / i;
  return 2 * sum;
}

// ln(x) for finite normal x > 0, within 1 ulp of the result or 1e-7.
USVS_INLINE Vector<float> log_of_finite(Vector<float> x);

// The same; +inf and NaN are returned unchanged.
USVS_INLINE Vector<float> log(Vector<float> x) {
  const Vector<float> result = log_of_finite(x);
  return x < std::numeric_limits<float>::infinity() ? result : x;
}

#if defined(__AVX512F__)
// x = 2^e m. The upper five bits of m select c close to 1 / m: ln(x) = e ln 2 - ln(c) + ln(1 + r)
// with r = m c - 1, whose series is short. Less than half the work of the polynomial below.
struct LogTable {
  alignas(64) float reciprocal[32], logarithm[32];
};
constexpr LogTable make_log_table() {
  LogTable table{};
  for (int i = 0; i < 32; ++i) {
    // Exact at the ends, where the logarithm is close to zero.
    const double c = i == 0 ? 1 : i == 31 ? 0.5 : 1 / (1 + (i + 0.5) / 32);
    table.reciprocal[i] = static_cast<float>(c);
    table.logarithm[i] = static_cast<float>(-log_of_constant(table.reciprocal[i]));
  }
  return table;
}
inline constexpr LogTable kLogTable = make_log_table();

USVS_INLINE Vector<float> log_of_finite(Vector<float> x) {
  const Vector<float> exponent = (Vector<float>)_mm512_getexp_ps((__m512)x);
  const Vector<float> mantissa =
      (Vector<float>)_mm512_getmant_ps((__m512)x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
  const IntVector<float> cell = (IntVector<float>)x >> 18;  // modulo 32 in the lookup
  const Vector<float> reciprocal =
      __builtin_shuffle(load(kLogTable.reciprocal), load(kLogTable.reciprocal + 16), cell);
  const Vector<float> logarithm =
      __builtin_shuffle(load(kLogTable.logarithm), load(kLogTable.logarithm + 16), cell);
  const Vector<float> r = mantissa * reciprocal - 1.0f;  // in -1/63 ... 1/32
  // The two coefficients are fitted to this range: errors below 4e-8 beyond rounding.
  const Vector<float> p = r * 0.329f - 0.5001f;
  return (exponent * 0.69314718056f + logarithm) + (p * (r * r) + r);
}
#else
USVS_INLINE Vector<float> log_of_finite(Vector<float> x) {
  using Ints = IntVector<float>;
  constexpr int32_t sqrt_half = 0x3f3504f3;
  const Ints exponent = ((Ints)x - sqrt_half) >> 23;
  const Vector<float> mantissa =
      (Vector<float>)((Ints)x - (exponent << 23));  // in [sqrt(1/2), sqrt(2))
  const Vector<float> r = mantissa - 1.0f;
  const Vector<float> r2 = r * r;
  // Two interleaved polynomials: a single chain of nine multiply-adds would have twice the latency.
  Vector<float> even = broadcast(7.0376836292e-2f), odd = broadcast(-1.1514610310e-1f);
  even = even * r2 + 1.1676998740e-1f;
  odd = odd * r2 - 1.2420140846e-1f;
  even = even * r2 + 1.4249322787e-1f;
  odd = odd * r2 - 1.6668057665e-1f;
  even = even * r2 + 2.0000714765e-1f;
  odd = odd * r2 - 2.4999993993e-1f;
  even = even * r2 + 3.3333331174e-1f;
  const Vector<float> tail = (even * r + (odd * r2 - 0.5f)) * r2;
  return __builtin_convertvector(exponent, Vector<float>) * 0.69314718056f + (tail + r);
}
#endif

USVS_INLINE Vector<double> log_of_finite(Vector<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) x[lane] = __builtin_log(x[lane]);
  return x;
}

// e^r for |r| <= ln(2) / 2.
USVS_INLINE Vector<float> exp_of_remainder(Vector<float> r) {
  Vector<float> p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * (r * r) + (r + 1.0f);
}

// Below this, e^x is a denormal number, with which products are many times slower.
inline constexpr float kLeastNormalExponent = -87.336544f;

// e^x for x <= 0 (and a little above), within 2 ulp; 0 where e^x is denormal; NaN stays.
#if defined(__AVX512F__)
USVS_INLINE Vector<float> exp(Vector<float> x) {
  const Vector<float> n = (Vector<float>)_mm512_roundscale_ps(
      (__m512)(x * 1.44269504089f), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const Vector<float> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  const Vector<float> result =
      (Vector<float>)_mm512_scalef_ps((__m512)exp_of_remainder(r), (__m512)n);
  return x < kLeastNormalExponent ? Vector<float>{} : result;
}
#else
USVS_INLINE Vector<float> exp(Vector<float> x) {
  using Ints = IntVector<float>;
  constexpr float to_integer = 12582912.0f;  // adding 1.5 * 2^23 rounds to an integer
  const Vector<float> shifted = x * 1.44269504089f + to_integer;
  const Vector<float> n = shifted - to_integer;
  const Vector<float> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  const Vector<float> scale = (Vector<float>)(((Ints)shifted + 127) << 23);
  return x < kLeastNormalExponent ? Vector<float>{} : exp_of_remainder(r) * scale;
}
#endif

USVS_INLINE Vector<double> exp(Vector<double> x) {
  constexpr double least_normal_exponent = -708.39641853;
  for (int lane = 0; lane < kLanes<double>; ++lane) {
    x[lane] = x[lane] < least_normal_exponent ? 0 : __builtin_exp(x[lane]);
  }
  return x;
}

}  // namespace usvs::cpu::USVS_LEVEL
