// The constants of the Fourier transforms, computed by the compiler: no upload, no allocation.
#pragma once
#include "kernels/simt.h"

namespace usvs::cuda {

// A transform of N real samples is one of M = N / 2 complex points, in passes of radix 8, and of
// radix 4 where 8 does not divide what is left. `stride` is the product of the radices of the
// passes before.
template <int N>
struct FftShape {
  static constexpr int M = N / 2;
  static constexpr int threads = M / 8;  // 8 points for each thread

  static constexpr __host__ __device__ int radix(int stride) {
    const int left = M / stride;
    return left % 8 == 0 && left != 16 ? 8 : 4;
  }
  // Index of the first factor of the pass at `stride`. The factors of the final split follow those
  // of all passes. The first pass needs none.
  static constexpr __host__ __device__ int factors(int stride) {
    int count = 0;
    for (int s = radix(1); s < stride; s *= radix(s)) count += (radix(s) - 1) * s;
    return count;
  }
  static constexpr int split = factors(M);
  static constexpr int table_size = split + M / 2;
};

// exp(-2 pi i numerator / denominator), correct to the last bit of a float: the angle is reduced to
// an eighth of a turn, where the series needs few terms.
constexpr void unit_root(int numerator, int denominator, float& real, float& imaginary) {
  const int eighth = 8 * numerator / denominator;  // eighth of a turn
  const bool odd = eighth % 2 != 0;
  const int rest = 8 * numerator - (eighth + (odd ? 1 : 0)) * denominator;
  const double angle =
      0.78539816339744830962 * rest / denominator;  // at most an eighth of a turn, signed
  double cosine = 1, sine = angle, term = angle;
  double even_term = 1;
  for (int k = 1; k < 12; ++k) {
    even_term *= -angle * angle / ((2 * k - 1) * (2 * k));
    term *= -angle * angle / ((2 * k) * (2 * k + 1));
    cosine += even_term;
    sine += term;
  }
  // The angle relative to a multiple of a quarter turn.
  const int quarter = (eighth + (odd ? 1 : 0)) / 2 % 4;
  const double x = quarter == 0 ? cosine : quarter == 1 ? -sine : quarter == 2 ? -cosine : sine;
  const double y = quarter == 0 ? sine : quarter == 1 ? cosine : quarter == 2 ? -sine : -cosine;
  real = static_cast<float>(x);
  imaginary = static_cast<float>(-y);
}

template <int N>
struct alignas(16) TwiddleTable {
  float2 values[FftShape<N>::table_size];
};

template <int N>
constexpr TwiddleTable<N> make_twiddles() {
  using Shape = FftShape<N>;
  TwiddleTable<N> table{};
  for (int stride = Shape::radix(1); stride < Shape::M; stride *= Shape::radix(stride)) {
    const int radix = Shape::radix(stride);
    for (int r = 1; r < radix; ++r) {
      for (int j = 0; j < stride; ++j) {
        float2& value = table.values[Shape::factors(stride) + (r - 1) * stride + j];
        unit_root(r * j, radix * stride, value.x, value.y);
      }
    }
  }
  for (int k = 0; k < Shape::M / 2; ++k) {
    unit_root(k, N, table.values[Shape::split + k].x, table.values[Shape::split + k].y);
  }
  return table;
}

template <int N>
__device__ const TwiddleTable<N> twiddles = make_twiddles<N>();

}  // namespace usvs::cuda
