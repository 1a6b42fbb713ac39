// Small discrete Fourier transforms of vectors: every lane is an independent transform. Forward
// sign, w = e^(-2 pi i / R).
#pragma once
#include "cpu/simd.h"

namespace usvs::cpu::USVS_LEVEL {

template <typename V>
struct Complex {
  V re, im;
  USVS_INLINE Complex operator+(Complex other) const { return {re + other.re, im + other.im}; }
  USVS_INLINE Complex operator-(Complex other) const { return {re - other.re, im - other.im}; }
  USVS_INLINE Complex conjugate() const { return {re, -im}; }
};

template <typename V, typename Real>
USVS_INLINE Complex<V> multiply(Complex<V> x, Real w_re, Real w_im) {
  return {x.re * w_re - x.im * w_im, x.re * w_im + x.im * w_re};
}

// cos(2 pi k / n), exact to double precision, at compile time.
constexpr double cos_of_turn(int k, int n) {
  k = (k % n + n) % n;
  if (2 * k > n) k = n - k;
  if (4 * k > n) return -cos_of_turn(n - 2 * k, 2 * n);  // -cos(pi - x)
  const double x = 6.283185307179586476925286766559 * k / n;
  double term = 1, sum = 1;
  for (int i = 2; i < 30; i += 2) sum += term *= -x * x / (i * (i - 1));
  return sum;
}
constexpr double sin_of_turn(int k, int n) { return cos_of_turn(4 * k - n, 4 * n); }

// x * w_R^K, with the cheap cases (multiples of an eighth turn) resolved at compile time.
template <int R, int K, typename Real, typename V>
USVS_INLINE Complex<V> twiddle(Complex<V> x) {
  constexpr int k = K % R;
  if constexpr (k == 0) {
    return x;
  } else if constexpr (4 * k == R) {
    return {x.im, -x.re};
  } else if constexpr (8 * k == R || 8 * k == 3 * R) {
    constexpr Real half_root = Real(0.70710678118654752440);
    if constexpr (8 * k == R) return {(x.re + x.im) * half_root, (x.im - x.re) * half_root};
    return {(x.im - x.re) * half_root, (x.re + x.im) * -half_root};
  } else {
    constexpr Real w_re = Real(cos_of_turn(k, R)), w_im = Real(-sin_of_turn(k, R));
    return multiply(x, w_re, w_im);
  }
}

template <int R, typename Real, typename V>
USVS_INLINE void composite_dft(Complex<V>* x);
template <int R, typename Real, typename V>
__attribute__((noinline)) void large_dft(Complex<V>* x);

// The complex transform of R points in place, natural order; R is a power of two up to 64.
template <int R, typename Real, typename V>
USVS_INLINE void dft(Complex<V>* x) {
  if constexpr (R >= 32) {
    large_dft<R, Real>(x);
  } else if constexpr (R == 2) {
    const Complex<V> sum = x[0] + x[1];
    x[1] = x[0] - x[1];
    x[0] = sum;
  } else if constexpr (R == 4) {
    const Complex<V> s = x[0] + x[2], d = x[0] - x[2], t = x[1] + x[3], u = x[1] - x[3];
    x[0] = s + t;
    x[1] = {d.re + u.im, d.im - u.re};
    x[2] = s - t;
    x[3] = {d.re - u.im, d.im + u.re};
  } else if constexpr (R > 4) {
    composite_dft<R, Real>(x);
  }
}

// R = P x Q: P transforms of Q points, then Q transforms of P points.
template <int R, typename Real, typename V>
USVS_INLINE void composite_dft(Complex<V>* x) {
  constexpr int P = R == 8 ? 2 : R == 64 ? 8 : 4, Q = R / P;
  Complex<V> y[R];
  unroll<P>([&](auto group) USVS_INLINE_LAMBDA {
    constexpr int g = decltype(group)::value;
    unroll<Q>([&](auto i) USVS_INLINE_LAMBDA { y[g * Q + i] = x[g + P * i]; });
    dft<Q, Real>(y + g * Q);
  });
  unroll<Q>([&](auto index) USVS_INLINE_LAMBDA {
    constexpr int q = decltype(index)::value;
    Complex<V> z[P];
    unroll<P>([&](auto i) USVS_INLINE_LAMBDA {
      constexpr int g = decltype(i)::value;
      z[g] = twiddle<R, g * q, Real>(y[g * Q + q]);
    });
    dft<P, Real>(z);
    unroll<P>([&](auto i) USVS_INLINE_LAMBDA { x[q + Q * i] = z[i]; });
  });
}

// From 32 points on a transform does not fit into the registers, and one copy of its code is
// enough.
template <int R, typename Real, typename V>
__attribute__((noinline)) void large_dft(Complex<V>* x) {
  composite_dft<R, Real>(x);
}

// Bins 1, 5, 9, ... of a transform of R real points, from the R / 2 differences d[m] = x[m] - x[m +
// R / 2], of which the first `Active` are not zero. Since X[R - k] = conj X[k] these are all odd
// bins. Calls put(bin <= R / 2, value).
template <int R, int Active, typename Real, typename V, typename Put>
USVS_INLINE void odd_bins(const V* d, Put&& put) {
  constexpr int quarter = R / 4;
  Complex<V> z[quarter];
  unroll<quarter>([&](auto index) USVS_INLINE_LAMBDA {
    constexpr int m = decltype(index)::value;
    if constexpr (m + quarter < Active) {
      z[m] = twiddle<R, m, Real>(Complex<V>{d[m], -d[m + quarter]});
    } else if constexpr (m < Active) {
      z[m] = {d[m] * Real(cos_of_turn(m, R)), d[m] * Real(-sin_of_turn(m, R))};
    } else {
      z[m] = {};
    }
  });
  dft<quarter, Real>(z);
  unroll<quarter>([&](auto index) USVS_INLINE_LAMBDA {
    constexpr int bin = 4 * decltype(index)::value + 1;
    if constexpr (bin <= R / 2) {
      put(bin, z[index]);
    } else {
      put(R - bin, z[index].conjugate());
    }
  });
}

// Bins 0 ... R / 2 of R real points, of which only the first `Active` are not zero. Calls put(bin,
// value) once for each, and put_real(bin, value) for bins 0 and R / 2, which are real.
template <int R, int Active, typename Real, typename V, typename Put, typename PutReal>
USVS_INLINE void real_dft(const V* a, Put&& put, PutReal&& put_real) {
  if constexpr (R == 2) {
    put_real(0, Active > 1 ? a[0] + a[1] : a[0]);
    put_real(1, Active > 1 ? a[0] - a[1] : a[0]);
  } else {
    constexpr int half = R / 2, folded = Active < half ? Active : half;
    V sum[half], difference[half];
    unroll<folded>([&](auto index) USVS_INLINE_LAMBDA {
      constexpr int m = decltype(index)::value;
      if constexpr (m + half < Active) {
        sum[m] = a[m] + a[m + half];
        difference[m] = a[m] - a[m + half];
      } else {
        sum[m] = difference[m] = a[m];
      }
    });
    odd_bins<R, folded, Real>(difference, put);
    real_dft<half, folded, Real>(
        sum, [&](int bin, Complex<V> value) USVS_INLINE_LAMBDA { put(2 * bin, value); },
        [&](int bin, V value) USVS_INLINE_LAMBDA { put_real(2 * bin, value); });
  }
}

}  // namespace usvs::cpu::USVS_LEVEL
