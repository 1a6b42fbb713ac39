// Positions of frames in a clip and of columns between frames, and the load of a frame's samples.
#pragma once
#include "kernels/real_fft.cuh"

namespace usvs::cuda {

// LogSpectrogramInputs for both kernels, with derived values. Clips are shorter than 2^30 samples,
// so a position in a clip is an int; the position of a clip in the waveform is not bounded.
struct SpectrogramShape {
  const float* waveform;   // rows, or one recording
  const int64_t* offsets;  // [clips] start of each clip in the recording; null for rows
  int64_t row_stride;      // elements
  int64_t last_offset;     // largest offset of a clip inside the recording
  int samples;             // S, of a clip
  int transform_frames;    // F
  int hop_length;
  int win_length;
  int lead;     // samples from the start of a frame's window to the start of its hop
  int columns;  // of the result
  float eps;
  double per_column_unit, per_frame_unit;  // 1 / (2 columns), 1 / (2 F): see floor_divide
  double per_window;                       // 1 / win_length

  // Position of a clip in the waveform. An offset outside of the recording gives -1: the host
  // cannot read it without waiting.
  __device__ int64_t clip_start(int64_t index) const {
    if (!offsets) return index * row_stride;
    const int64_t offset = __ldg(&offsets[index]);
    return offset <= last_offset ? offset : -1;
  }
  __device__ int window_start(int frame) const { return frame * hop_length - lead; }
};

// floor(a / b), exact for 0 <= a < 2^52: the product with the reciprocal is off by one at most.
__device__ __forceinline__ int64_t floor_divide(int64_t a, int64_t b, double reciprocal_b) {
  const int64_t near = static_cast<int64_t>(static_cast<double>(a) * reciprocal_b);
  const int64_t rest = a - near * b;
  return rest < 0 ? near - 1 : rest < b ? near : near + 1;
}

// The periodic Hann window times 1/2 (see split_pair). Computed as sin^2: 1 - cos would lose the
// small values at the ends.
__device__ __forceinline__ void fill_window(float* window, const SpectrogramShape& shape) {
  for (int i = threadIdx.x; i < shape.win_length; i += kSpectrogramThreads) {
    const float sine = sinpif(static_cast<float>(i * shape.per_window));
    window[i] =
        shape.win_length == 1 ? 0.5f : 0.5f * sine * sine;  // a window of one sample has weight 1
  }
}

// Index of the sample at position `at` of a clip that is reflected at its ends.
__device__ __forceinline__ int reflected(int at, int samples) {
  if (at < 0) return -at;
  return at < samples ? at : 2 * (samples - 1) - at;
}

// Loads the windowed samples of a frame as complex points, as transform_points<N> expects them. The
// window starts at point 0 instead of the middle of N: this changes phases only, which neither the
// power nor its gradient depends on.
template <int N>
__device__ __forceinline__ void load_frame(float2 (&v)[8], const float* clip, int start,
                                           const float* window, const SpectrogramShape& shape,
                                           int thread) {
  using Shape = FftShape<N>;
  const int length = shape.win_length;
  const float* const frame = &clip[start];
  const bool inside = start >= 0 && start + length <= shape.samples;
  const bool pairs =
      inside && length % 2 == 0 && reinterpret_cast<uintptr_t>(frame) % sizeof(float2) == 0;
#pragma unroll
  for (int r = 0; r < 8; ++r) {
    const int at = 2 * (thread + r * Shape::threads);
    v[r] = make_float2(0, 0);
    if (at >= length) continue;
    if (pairs) {
      const float2 both = __ldg(reinterpret_cast<const float2*>(&frame[at]));
      const float2 weights = *reinterpret_cast<const float2*>(&window[at]);
      v[r] = make_float2(both.x * weights.x, both.y * weights.y);
      continue;
    }
    v[r].x = __ldg(&clip[reflected(start + at, shape.samples)]) * window[at];
    if (at + 1 < length) {
      v[r].y = __ldg(&clip[reflected(start + at + 1, shape.samples)]) * window[at + 1];
    }
  }
}

// Column c is at frame ((2c + 1) F - columns) / (2 columns), clamped to the existing frames, exact
// in integers. Its value is (1 - weight) low + weight high.
struct Column {
  int low, high;
  float weight;
};
__device__ __forceinline__ int64_t column_numerator(int column, const SpectrogramShape& shape) {
  const int64_t numerator =
      (2 * static_cast<int64_t>(column) + 1) * shape.transform_frames - shape.columns;
  const int64_t most = 2 * static_cast<int64_t>(shape.columns) * (shape.transform_frames - 1);
  return numerator < 0 ? 0 : numerator < most ? numerator : most;
}
__device__ __forceinline__ Column column_at(int column, const SpectrogramShape& shape) {
  const int64_t numerator = column_numerator(column, shape);
  const int64_t unit = 2 * static_cast<int64_t>(shape.columns);
  const int low = static_cast<int>(floor_divide(numerator, unit, shape.per_column_unit));
  const float rest = static_cast<float>(numerator - low * unit);
  const int high = rest > 0 ? low + 1 : low;  // a NaN in the next frame must not reach this column
  return {low, high, rest * static_cast<float>(shape.per_column_unit)};
}

}  // namespace usvs::cuda
