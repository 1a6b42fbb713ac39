// Log-spectrogram, forward pass: a block computes one tile of columns of one clip.
//
//   samples --window--> v --passes--> Z --split, |X|^2, ln--> logs --resize--> output
//   (global)        (registers)    (points)             (all bands of the     (global, once)
//                                                        tile's frames)
//
// FftShape<N>::threads threads transform a frame, and frames_per_round frames are transformed at a
// time, until `logs` holds every frame that the tile's columns are interpolated from.
//
//   block          256 threads
//   tile           up to 256 columns; `slots` frames (32 for N = 512) in shared memory
//   grid           tiles of columns x clips
//   stages         1: a barrier of a frame's threads before the next round overwrites `points`
//   registers      at most 64 (N <= 1024) or 128 (N > 1024), by __launch_bounds__
//   shared memory  ForwardPlan<N>::shared_bytes: 26,624 bytes (N = 64) to 100,384 (N = 4096);
//                  52,224 bytes for N = 512
//   blocks per SM  4 for N <= 512, 3 for N = 1024, 2 above (sm_90)
#pragma once
#include "kernels/spectrogram_frames.cuh"

namespace usvs::cuda {

template <int N>
struct ForwardPlan {
  static constexpr int M = FftShape<N>::M;
  static constexpr int frames_per_round = kSpectrogramThreads / FftShape<N>::threads;
  // A multiple of frames_per_round: the last round may fill slots that are not read.
  static constexpr int slots = N == 64 ? 64 : N <= 512 ? 32 : N == 1024 ? 16 : 8;
  static constexpr int points_pitch = padded_points(M);
  static constexpr int logs_pitch = M + 1;  // odd: neighbouring frames are in different banks
  static constexpr int logs_offset = points_bytes(frames_per_round * points_pitch);
  static constexpr int window_offset =
      logs_offset + (slots * logs_pitch + 3) / 4 * 4 * static_cast<int>(sizeof(float));

  static size_t shared_bytes(int win_length) { return window_offset + win_length * sizeof(float); }
};

// Which frames a tile of columns needs, and their slots in `logs`. If columns are more than two
// frames apart, every column has two slots of its own; otherwise the tile's frames are stored
// consecutively.
struct ColumnTiles {
  unsigned tiles_per_clip;
  int columns;  // of a tile
  bool separate_slots;
  bool vector_stores;  // four neighbouring columns of a row are written at once
};
struct ColumnTile {
  int begin, end;  // [begin, end) columns
  int first_frame;
  int slots;
};
__device__ __forceinline__ ColumnTile column_tile(unsigned index, const ColumnTiles& tiles,
                                                  const SpectrogramShape& shape) {
  ColumnTile tile;
  tile.begin = static_cast<int>(index * tiles.columns);
  tile.end =
      shape.columns - tile.begin < tiles.columns ? shape.columns : tile.begin + tiles.columns;
  tile.first_frame = column_at(tile.begin, shape).low;
  tile.slots = tiles.separate_slots ? 2 * (tile.end - tile.begin)
                                    : column_at(tile.end - 1, shape).high - tile.first_frame + 1;
  return tile;
}
__device__ __forceinline__ int frame_of_slot(int slot, const ColumnTile& tile,
                                             const ColumnTiles& tiles,
                                             const SpectrogramShape& shape) {
  if (!tiles.separate_slots) return tile.first_frame + slot;
  const Column column = column_at(tile.begin + slot / 2, shape);
  return slot % 2 ? column.high : column.low;
}

// NaN where the sum is not finite.
__device__ __forceinline__ float log_of_power(float power, float eps) {
  const float sum = power + eps;
  return logf(fmaf(sum, 0, sum));
}

// Writes the logarithm of every band of a frame, from Z. Bin 0 is dropped; its place in the loop is
// used for bin M / 2, which is paired with itself.
template <int N>
__device__ __forceinline__ void store_logs(const float2* points, float* logs, float eps,
                                           int thread) {
  using Shape = FftShape<N>;
  constexpr int M = Shape::M;
  const float2* const roots = &twiddles<N>.values[Shape::split];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int k = thread + i * Shape::threads;
    const int high = k == 0 ? 0 : padded<-Shape::threads>(M - thread, i);
    const BinPair pair =
        split_pair(points[padded<Shape::threads>(thread, i)], points[high], __ldg(&roots[k]));
    float power = squared_magnitude(pair.low);
    if (k == 0) power = 4 * squared_magnitude(points[padded(M / 2)]);
    const int low_band = (k == 0 ? M / 2 : k) - 1;
    logs[low_band] = log_of_power(power, eps);
    logs[M - k - 1] = log_of_power(squared_magnitude(pair.high), eps);
  }
}

__device__ __forceinline__ void store_four(void* row, int64_t at, bool bfloat16_output,
                                           const float (&values)[4]) {
  if (bfloat16_output) {
    simt::bf16* const start = &static_cast<simt::bf16*>(row)[at];
    *reinterpret_cast<uint2*>(start) =
        make_uint2(simt::pack_bf16(values[0], values[1]), simt::pack_bf16(values[2], values[3]));
  } else {
    float* const start = &static_cast<float*>(row)[at];
    *reinterpret_cast<float4*>(start) = make_float4(values[0], values[1], values[2], values[3]);
  }
}
__device__ __forceinline__ void store_one(void* row, int64_t at, bool bfloat16_output,
                                          float value) {
  if (bfloat16_output) {
    static_cast<simt::bf16*>(row)[at] = simt::to_bf16(value);
  } else {
    static_cast<float*>(row)[at] = value;
  }
}

constexpr int kRowsAtOnce = 4;  // bands, whose number is a multiple of it

// Interpolates frames to columns: a thread computes four columns of kRowsAtOnce bands at a time.
__device__ __forceinline__ void write_columns(const float* logs, int logs_pitch, void* output,
                                              bool bfloat16_output, int bands, int64_t clip,
                                              const ColumnTile& tile, const ColumnTiles& tiles,
                                              const SpectrogramShape& shape) {
  const int groups = (tiles.columns + 3) / 4, rows = kSpectrogramThreads / groups;
  const int begin = tile.begin + threadIdx.x % groups * 4, row = threadIdx.x / groups;
  if (begin >= tile.end || row >= rows) return;
  const int count = tile.end - begin < 4 ? tile.end - begin : 4;
  int low[4], high[4];  // slots; behind the last column those of the last frame
  float weight[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const Column column = column_at(begin + i, shape);
    low[i] = tiles.separate_slots ? 2 * (begin - tile.begin + i) : column.low - tile.first_frame;
    high[i] = low[i] + column.high - column.low;
    weight[i] = column.weight;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    low[i] *= logs_pitch;
    high[i] *= logs_pitch;
  }
  const bool vector_stores = tiles.vector_stores && count == 4;
#pragma unroll 1
  for (int first = kRowsAtOnce * row; first < bands; first += kRowsAtOnce * rows) {
    float values[kRowsAtOnce][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* const a = &logs[low[i] + first];
      const float* const b = &logs[high[i] + first];
#pragma unroll
      for (int j = 0; j < kRowsAtOnce; ++j) {
        values[j][i] = fmaf(weight[i], b[j], (1 - weight[i]) * a[j]);
      }
    }
    const int64_t at = (clip * bands + first) * shape.columns + begin;
    if (vector_stores) {
#pragma unroll
      for (int j = 0; j < kRowsAtOnce; ++j) {
        store_four(output, at + j * int64_t{shape.columns}, bfloat16_output, values[j]);
      }
    } else {
#pragma unroll
      for (int j = 0; j < kRowsAtOnce; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (i < count) {
            store_one(output, at + j * int64_t{shape.columns} + i, bfloat16_output, values[j][i]);
          }
        }
      }
    }
  }
}

template <int N>
__global__ void __launch_bounds__(kSpectrogramThreads, N <= 1024 ? 4 : 2)
    log_spectrogram_forward_kernel(SpectrogramShape shape, ColumnTiles tiles, void* output,
                                   bool bfloat16_output) {
  using Plan = ForwardPlan<N>;
  constexpr int threads = FftShape<N>::threads;
  USVS_DYNAMIC_SHARED(float2, points, 0, Plan::frames_per_round * Plan::points_pitch);
  USVS_DYNAMIC_SHARED(float, logs, Plan::logs_offset, Plan::slots* Plan::logs_pitch);
  USVS_DYNAMIC_SHARED(float, window, Plan::window_offset, shape.win_length);
  const unsigned clip_index = blockIdx.x / tiles.tiles_per_clip;
  const ColumnTile tile = column_tile(blockIdx.x - clip_index * tiles.tiles_per_clip, tiles, shape);
  const int64_t start = shape.clip_start(clip_index);
  // A clip outside of the recording is NaN; its samples are not read.
  const float* const clip = &shape.waveform[start < 0 ? 0 : start];
  const float eps = start < 0 ? NAN : shape.eps;
  const int thread = threadIdx.x % threads, round_frame = threadIdx.x / threads;
  float2* const frame_points = &points[round_frame * Plan::points_pitch];
  fill_window(window, shape);
  __syncthreads();
  for (int first = 0; first < tile.slots; first += Plan::frames_per_round) {
    const int slot = first + round_frame;
    float2 v[8] = {};
    if (slot < tile.slots) {
      const int frame = frame_of_slot(slot, tile, tiles, shape);
      load_frame<N>(v, clip, shape.window_start(frame), window, shape, thread);
    }
    transform_points<N>(v, frame_points, thread);
    store_logs<N>(frame_points, &logs[slot * Plan::logs_pitch], eps, thread);
    frame_barrier<N>();  // before the next round overwrites points
  }
  __syncthreads();
  write_columns(logs, Plan::logs_pitch, output, bfloat16_output, Plan::M, clip_index, tile, tiles,
                shape);
}

}  // namespace usvs::cuda
