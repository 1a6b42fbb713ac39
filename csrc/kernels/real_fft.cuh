// Fourier transforms of N real samples with N / 16 threads for each frame, 8 complex points for
// each thread.
//
// The samples are read as M = N / 2 complex points z[m] = x[2m] + i x[2m + 1]. Between two passes
// the points are exchanged between threads through `points`, M complex numbers in shared memory:
//
//   load -> pass -> points -> pass -> points -> ... -> pass -> points = Z -> split: X from Z
//
// The passes are Stockham's: the result is in natural order, without bit reversal.
#pragma once
#include "kernels/complex.cuh"
#include "kernels/twiddles.cuh"

namespace usvs::cuda {

constexpr int kSpectrogramThreads = 256;

// Adds one point of padding after every eight, so that strides of 8 access different banks.
__device__ __forceinline__ int padded(int point) { return point + point / 8; }
// padded(point + i * step). Where the step is a multiple of eight, or eight steps of one begin at a
// multiple of eight, `i` adds a constant to the address.
template <int step, bool from_multiple_of_8 = false>
__device__ __forceinline__ int padded(int point, int i) {
  if constexpr (step % 8 == 0) {
    return padded(point) + i * (step + step / 8);
  } else if constexpr (step == 1 && from_multiple_of_8) {
    return padded(point) + i;
  } else {
    return padded(point + i * step);
  }
}
constexpr __host__ __device__ int padded_points(int points) { return points + (points - 1) / 8; }
// Bytes of `points`, rounded up to a multiple of 16.
constexpr int points_bytes(int points) { return (points + 1) / 2 * 16; }

// Barrier of the threads that share a frame.
template <int N>
__device__ __forceinline__ void frame_barrier() {
  if constexpr (FftShape<N>::threads <= 32) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

__device__ __forceinline__ void transform_4(float2& a, float2& b, float2& c, float2& d) {
  const float2 even_sum = add(a, c), even_difference = subtract(a, c);
  const float2 odd_sum = add(b, d), odd_difference = times_minus_i(subtract(b, d));
  a = add(even_sum, odd_sum);
  b = add(even_difference, odd_difference);
  c = subtract(even_sum, odd_sum);
  d = subtract(even_difference, odd_difference);
}

__device__ __forceinline__ void transform_8(float2 (&v)[8]) {
  constexpr float kHalfRoot = 0.70710678118654752f;
  transform_4(v[0], v[2], v[4], v[6]);
  transform_4(v[1], v[3], v[5], v[7]);
  const float2 a = v[1], b = v[3], c = v[5], d = v[7];
  const float2 b_turned = make_float2(kHalfRoot * (b.x + b.y), kHalfRoot * (b.y - b.x));
  const float2 c_turned = times_minus_i(c);
  const float2 d_turned = make_float2(kHalfRoot * (d.y - d.x), -kHalfRoot * (d.x + d.y));
  const float2 e0 = v[0], e1 = v[2], e2 = v[4], e3 = v[6];
  v[0] = add(e0, a);
  v[4] = subtract(e0, a);
  v[1] = add(e1, b_turned);
  v[5] = subtract(e1, b_turned);
  v[2] = add(e2, c_turned);
  v[6] = subtract(e2, c_turned);
  v[3] = add(e3, d_turned);
  v[7] = subtract(e3, d_turned);
}

// The pass at `stride` on 8 points in registers: multiplies by twiddles, transforms, writes to
// shared memory. The caller must synchronise before this, so that no thread still reads `points`;
// after it `points` are complete.
template <int N, int stride>
__device__ __forceinline__ void pass_and_store(float2 (&v)[8], float2* points, int thread) {
  using Shape = FftShape<N>;
  constexpr int radix = Shape::radix(stride), transforms = 8 / radix;
#pragma unroll
  for (int i = 0; i < transforms; ++i) {
    const int j = thread + i * Shape::threads, j_low = j % stride, j_high = j - j_low;
    if constexpr (stride > 1) {
      const float2* const table = twiddles<N>.values;
#pragma unroll
      for (int r = 1; r < radix; ++r) {
        v[i * radix + r] = multiply(
            v[i * radix + r], __ldg(&table[Shape::factors(stride) + (r - 1) * stride + j_low]));
      }
    }
    if constexpr (radix == 8) {
      transform_8(v);
    } else {
      transform_4(v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]);
    }
#pragma unroll
    for (int r = 0; r < radix; ++r) {
      points[padded<stride, radix == 8>(j_high * radix + j_low, r)] = v[i * radix + r];
    }
  }
  frame_barrier<N>();
}

// Reads the points for the pass at `stride` into registers.
template <int N, int stride>
__device__ __forceinline__ void load_points(float2 (&v)[8], const float2* points, int thread) {
  using Shape = FftShape<N>;
  constexpr int radix = Shape::radix(stride), transforms = 8 / radix;
#pragma unroll
  for (int i = 0; i < transforms; ++i) {
#pragma unroll
    for (int r = 0; r < radix; ++r) {
      const int j = thread + i * Shape::threads;
      v[i * radix + r] = points[padded<Shape::M / radix>(j, r)];
    }
  }
}

// Transforms points in registers (in the order of load_points<N, 1>) to Z in shared memory.
template <int N, int stride = 1>
__device__ __forceinline__ void transform_points(float2 (&v)[8], float2* points, int thread) {
  using Shape = FftShape<N>;
  pass_and_store<N, stride>(v, points, thread);
  constexpr int next = stride * Shape::radix(stride);
  if constexpr (next < Shape::M) {
    load_points<N, next>(v, points, thread);
    frame_barrier<N>();
    transform_points<N, next>(v, points, thread);
  }
}

// Bins k and M - k of the real transform from Z[k] and Z[M - k], for samples that were multiplied
// by 1/2 before.
struct BinPair {
  float2 low, high;  // X[k] and the conjugate of X[M - k]
};
__device__ __forceinline__ BinPair split_pair(float2 z_low, float2 z_high, float2 root) {
  const float2 even = add(z_low, conjugate(z_high));
  const float2 odd = multiply(root, times_minus_i(subtract(z_low, conjugate(z_high))));
  return {add(even, odd), subtract(even, odd)};
}

}  // namespace usvs::cuda
