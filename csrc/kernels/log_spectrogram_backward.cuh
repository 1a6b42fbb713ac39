// Log-spectrogram, backward pass: a block computes the gradient of one tile of samples from every
// frame that covers them. No floats are added atomically, so the result has the same bits in every
// run.
//
// With p = |X|^2 and g the gradient of ln(p + eps), dp / dx[n] = 2 Re(X_k exp(2 pi i k n / N)). The
// gradient of a frame's samples is the inverse real transform of H_k = g_k / (p_k + eps) X_k (twice
// that for k = M). The frame is transformed again; its spectrum X never leaves the block.
//
//   samples -> Z -> X, H -> Z' -> passes -> frame's gradient -> window, sum over frames -> global
//
//   block          256 threads
//   tile           2048 samples (2 N for N > 1024); frames_per_round frames at a time
//   grid           tiles of samples x clips, or tiles of the recording that all clips are parts of
//   stages         1: barriers between transform, gradient and overlap-add
//   registers      at most 128 (N < 512), 80 (N = 512, 1024), 128 (N > 1024)
//   shared memory  BackwardPlan<N>::shared_bytes: 34,816 bytes (N = 64) to 75,904 (N = 4096);
//                  35,840 bytes for N = 512, window 240
//   blocks per SM  2 (N < 512), 3 (N = 512, 1024), 2 (N > 1024)
#pragma once
#include "kernels/spectrogram_frames.cuh"

namespace usvs::cuda {

template <int N>
struct BackwardPlan {
  static constexpr int M = FftShape<N>::M;
  static constexpr int frames_per_round = kSpectrogramThreads / FftShape<N>::threads;
  static constexpr int tile = N <= 1024 ? 2048 : 2 * N;  // samples
  static constexpr int points_pitch = padded_points(M);
  static constexpr int grads_pitch =
      M + (frames_per_round < 32 ? 32 / frames_per_round
                                 : 1);  // different banks for the frames of a warp
  static constexpr int grads_offset = points_bytes(frames_per_round * points_pitch);
  static constexpr int sums_offset =
      grads_offset + (frames_per_round * grads_pitch + 3) / 4 * 4 * static_cast<int>(sizeof(float));
  static constexpr int window_offset = sums_offset + tile * static_cast<int>(sizeof(float));

  static size_t shared_bytes(int win_length) { return window_offset + win_length * sizeof(float); }
};

// The samples whose gradient is computed: the clips one by one, or one recording that all clips are
// parts of.
struct SampleRows {
  int64_t length;    // samples of a row (a clip, or the recording)
  unsigned tiles;    // tiles of a row
  int clips_in_row;  // 1, or all clips
};

// A sample gets its gradient from a position of the clip directly, or from a position before the
// start or behind the end that was read by reflection. A Range is [begin, end).
enum Reflection { kDirect, kAtStart, kAtEnd };
struct Range {
  int begin, end;
};
__device__ __forceinline__ int position_of(int sample, int reflection, int samples) {
  if (reflection == kDirect) return sample;
  return reflection == kAtStart ? -sample : 2 * (samples - 1) - sample;
}
__device__ __forceinline__ Range positions_of(Range samples, int reflection, int clip_samples) {
  if (reflection == kDirect) return samples;
  const int first = position_of(samples.end - 1, reflection, clip_samples);
  const int last = position_of(samples.begin, reflection, clip_samples);
  if (reflection == kAtStart) return {first, last < 0 ? last + 1 : 0};
  return {first < clip_samples ? clip_samples : first, last + 1};
}
// The frames whose windows cover any of these positions.
__device__ __forceinline__ Range frames_of(Range positions, const SpectrogramShape& shape) {
  const int past_first_window = positions.begin + shape.lead - shape.win_length;
  const int last_window = positions.end - 1 + shape.lead;
  const int begin = past_first_window < 0 ? 0 : past_first_window / shape.hop_length + 1;
  const int end = last_window < 0 ? 0 : last_window / shape.hop_length + 1;
  return {begin, end < shape.transform_frames ? end : shape.transform_frames};
}

// The columns that are interpolated from a frame.
__device__ __forceinline__ Range columns_of(int frame, const SpectrogramShape& shape) {
  const int64_t unit = 2 * static_cast<int64_t>(shape.columns);  // numerator of one frame
  const int64_t two_frames = 2 * static_cast<int64_t>(shape.transform_frames);
  const int64_t before = unit * (frame - 1) + shape.columns - shape.transform_frames;
  const int64_t behind = before + 2 * unit + two_frames - 1;
  Range columns{0, shape.columns};
  if (before >= 0) {
    columns.begin = static_cast<int>(floor_divide(before, two_frames, shape.per_frame_unit)) + 1;
  }
  if (frame < shape.transform_frames - 1) {
    columns.end = static_cast<int>(floor_divide(behind, two_frames, shape.per_frame_unit));
  }
  return columns;
}

// Gradients of the log-power of each frame of the round: the transpose of the resize in time. A
// thread computes eight bands at once, since the weight of a column is the same for all of them.
template <int N>
__device__ __forceinline__ void gather_frame_gradients(float* grads, const float* output_grad,
                                                       int clip, int first_frame,
                                                       const SpectrogramShape& shape) {
  using Plan = BackwardPlan<N>;
  constexpr int kStep = kSpectrogramThreads / Plan::frames_per_round, kBands = Plan::M / kStep;
  static_assert(kBands == 8, "these sums fit into the registers");
  const int round_frame = threadIdx.x % Plan::frames_per_round, frame = first_frame + round_frame;
  const int first_band = threadIdx.x / Plan::frames_per_round;
  const Range columns = columns_of(frame, shape);
  const int64_t frame_numerator = 2 * static_cast<int64_t>(shape.columns) * frame;
  const float per_unit = static_cast<float>(shape.per_column_unit);
  const float* const row =
      &output_grad[(static_cast<int64_t>(clip) * Plan::M + first_band) * shape.columns];
  const int64_t stride = int64_t{kStep} * shape.columns;
  float sums[kBands] = {};
#pragma unroll 1
  for (int column = columns.begin; column < columns.end; ++column) {
    const float distance =
        static_cast<float>(column_numerator(column, shape) - frame_numerator) * per_unit;
    const float weight = 1 - fabsf(distance);
#pragma unroll
    for (int i = 0; i < kBands; ++i) {
      sums[i] = fmaf(weight, __ldg(&row[i * stride + column]), sums[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kBands; ++i) {
    grads[round_frame * Plan::grads_pitch + first_band + i * kStep] = sums[i];
  }
}

// From Z to Z', whose transform is the gradient of the frame, in place. Real and imaginary parts
// are exchanged, which makes the forward transform an inverse one.
template <int N>
__device__ __forceinline__ void make_gradient_spectrum(float2* points, const float* grads,
                                                       float eps, int thread) {
  using Shape = FftShape<N>;
  constexpr int M = Shape::M;
  const float2* const roots = &twiddles<N>.values[Shape::split];
#pragma unroll 1
  for (int i = 0; i < 4; ++i) {
    const int k = thread + i * Shape::threads;
    const float2 root = __ldg(&roots[k]);
    const BinPair pair = split_pair(points[padded(k)], points[padded((M - k) % M)], root);
    const float high_factor =
        simt::fast_divide(grads[M - k - 1], squared_magnitude(pair.high) + eps);
    const float2 high = make_float2(high_factor * pair.high.x, high_factor * pair.high.y);
    if (k == 0) {
      const float2 middle = points[padded(M / 2)];
      const float factor =
          simt::fast_divide(4 * grads[M / 2 - 1], fmaf(4, squared_magnitude(middle), eps));
      points[padded(0)] = make_float2(-2 * high.x, 2 * high.x);
      points[padded(M / 2)] = make_float2(factor * middle.y, factor * middle.x);
      continue;
    }
    const float low_factor = simt::fast_divide(grads[k - 1], squared_magnitude(pair.low) + eps);
    const float2 low = make_float2(low_factor * pair.low.x, low_factor * pair.low.y);
    const float2 even = add(low, high);
    const float2 odd = multiply(conjugate(root), swapped(conjugate(subtract(low, high))));
    points[padded(k)] = swapped(add(even, odd));
    points[padded(M - k)] = swapped(conjugate(subtract(even, odd)));
  }
}

// Adds the gradients of the round's frames to the sums of samples [0, tile). Every sample belongs
// to one thread. `samples` are counted from the start of the clip.
template <int N>
__device__ __forceinline__ void overlap_add(float* sums, const float2* points, const float* window,
                                            int tile_begin, Range samples, int reflection,
                                            Range frames, const SpectrogramShape& shape) {
  using Plan = BackwardPlan<N>;
  const Range positions = positions_of(samples, reflection, shape.samples);
  const int first_start = shape.window_start(frames.begin), count = frames.end - frames.begin;
#pragma unroll 1
  for (int i = threadIdx.x; i < samples.end - tile_begin; i += kSpectrogramThreads) {
    const int position = position_of(tile_begin + i, reflection, shape.samples);
    const int from_start = position - first_start;
    if (position < positions.begin || position >= positions.end || from_start < 0) continue;
    const int last_window = from_start / shape.hop_length;
    const int past_first_window = from_start - shape.win_length;
    const int first_window = past_first_window < 0 ? 0 : past_first_window / shape.hop_length + 1;
    float sum = 0;
#pragma unroll 1
    for (int round_frame = first_window;
         round_frame <= last_window && round_frame < count && round_frame < Plan::frames_per_round;
         ++round_frame) {
      const int at = from_start - round_frame * shape.hop_length;
      const float2 pair = points[round_frame * Plan::points_pitch + padded(at / 2)];
      sum = fmaf(at % 2 ? pair.x : pair.y, window[at], sum);
    }
    sums[i] += 2 * sum;  // the window was halved
  }
}

// Adds the gradient of one clip to the tile; tile_begin and samples are counted from the clip's
// first sample.
template <int N>
__device__ __forceinline__ void add_clip(float* sums, float2* points, float* grads,
                                         const float* window, const float* output_grad, int index,
                                         const float* clip, int tile_begin, Range samples,
                                         int reflection, const SpectrogramShape& shape) {
  using Plan = BackwardPlan<N>;
  const int thread = threadIdx.x % FftShape<N>::threads,
            round_frame = threadIdx.x / FftShape<N>::threads;
  float2* const frame_points = &points[round_frame * Plan::points_pitch];
  Range frames = frames_of(positions_of(samples, reflection, shape.samples), shape);
#pragma unroll 1
  for (; frames.begin < frames.end; frames.begin += Plan::frames_per_round) {
    const int frame = frames.begin + round_frame;
    float2 v[8] = {};
    if (frame < frames.end) {
      load_frame<N>(v, clip, shape.window_start(frame), window, shape, thread);
    }
    transform_points<N>(v, frame_points, thread);
    gather_frame_gradients<N>(grads, output_grad, index, frames.begin, shape);
    __syncthreads();  // grads are complete
    make_gradient_spectrum<N>(frame_points, &grads[round_frame * Plan::grads_pitch], shape.eps,
                              thread);
    frame_barrier<N>();
    load_points<N, 1>(v, frame_points, thread);
    frame_barrier<N>();
    transform_points<N>(v, frame_points, thread);
    __syncthreads();  // points hold the frames' gradients
    overlap_add<N>(sums, points, window, tile_begin, samples, reflection, frames, shape);
    __syncthreads();  // before the next round overwrites points
  }
}

template <int N>
__global__ void __launch_bounds__(kSpectrogramThreads, N == 512 || N == 1024 ? 3 : 2)
    log_spectrogram_backward_kernel(SpectrogramShape shape, SampleRows rows,
                                    const float* output_grad, float* waveform_grad) {
  using Plan = BackwardPlan<N>;
  USVS_DYNAMIC_SHARED(float2, points, 0, Plan::frames_per_round * Plan::points_pitch);
  USVS_DYNAMIC_SHARED(float, grads, Plan::grads_offset, Plan::frames_per_round* Plan::grads_pitch);
  USVS_DYNAMIC_SHARED(float, sums, Plan::sums_offset, Plan::tile);
  USVS_DYNAMIC_SHARED(float, window, Plan::window_offset, shape.win_length);
  const unsigned row = blockIdx.x / rows.tiles;
  const int64_t row_begin = static_cast<int64_t>(blockIdx.x - row * rows.tiles) * Plan::tile;
  const int64_t left = rows.length - row_begin;
  const int count = left < Plan::tile ? static_cast<int>(left) : Plan::tile;
  fill_window(window, shape);
  for (int i = threadIdx.x; i < Plan::tile; i += kSpectrogramThreads) sums[i] = 0;
  __syncthreads();
#pragma unroll 1
  for (int round_frame = 0; round_frame < rows.clips_in_row; ++round_frame) {
    const int index = static_cast<int>(row) + round_frame;
    const int64_t start = shape.clip_start(index);
    if (start < 0) continue;  // outside of the recording
    const int64_t origin = shape.offsets ? start : 0;
    const int64_t distance = row_begin - origin;  // from the clip's first sample to the tile's
    if (distance >= shape.samples || distance + count <= 0) continue;
    const int tile_begin = static_cast<int>(distance);
    const Range samples{tile_begin < 0 ? 0 : tile_begin,
                        shape.samples - tile_begin < count ? shape.samples : tile_begin + count};
#pragma unroll 1
    for (int reflection = kDirect; reflection <= kAtEnd; ++reflection) {
      add_clip<N>(sums, points, grads, window, output_grad, index, &shape.waveform[start],
                  tile_begin, samples, reflection, shape);
    }
  }
  float* const row_grad = &waveform_grad[row * rows.length + row_begin];
  for (int i = threadIdx.x; i < count; i += kSpectrogramThreads) row_grad[i] = sums[i];
}

}  // namespace usvs::cuda
