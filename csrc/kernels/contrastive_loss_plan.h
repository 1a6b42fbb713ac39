// How a pass of the contrastive loss is plan into blocks. Sizes alone decide, never the device, so
// that the same inputs give the same bits everywhere.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/simt.h"

namespace usvs::cuda {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kTileRows = 16 * kWarps;  // owned by a block
constexpr int kSliceWidth = 128;        // at most so many columns of the embeddings at once
constexpr int kTileColumns = 32;        // streamed at a time
constexpr int kFragments = kTileColumns / 8;
template <typename Input>
constexpr int kPitch = kSliceWidth + 16 / sizeof(Input);  // from row to row in shared memory
constexpr int kSumsPitch = kSliceWidth + 4;               // the same where sums lie there

// Shared memory of a block: one owned and two streamed tiles, whose assign_workspace its sums take
// in the end. In float32 that is all that a multiprocessor of compute capability 8.6 has.
template <typename Input>
constexpr int kTilesBytes = (kTileRows + 2 * kTileColumns) * kPitch<Input> * sizeof(Input);
constexpr int kSumsBytes = kTileRows * kSumsPitch * sizeof(float);
template <typename Input>
constexpr int kSharedBytes = kTilesBytes<Input> > kSumsBytes ? kTilesBytes<Input> : kSumsBytes;

constexpr int kTargetBlocks = 1024;   // four waves of two blocks on each of 132 multiprocessors
constexpr int kMinTilesPerSplit = 4;  // streamed by a block, or loading its rows would not pay
constexpr int kMaxSplitsOfGradients = 32;  // what the last block adds up: 64 KiB a split
constexpr int kMaxSplitsOfLogits = 128;    // 1 KiB a split

constexpr int64_t ceil_divide(int64_t count, int64_t by) { return (count + by - 1) / by; }

// How the width is gone through, and what turns similarities into logits.
struct EmbeddingLayout {
  int width;          // d
  int slices;         // of the width
  int slice_width;    // columns of a slice, whole steps of the tensor cores
  bool aligned_rows;  // rows begin at multiples of 16 bytes
  // 1 / T in two parts: in one, it would cost logits half a unit of their last assign_workspace.
  float scale_high, scale_low;

  template <typename Input>
  static EmbeddingLayout make(int64_t width, bool aligned_rows, double temperature) {
    constexpr int step = 64 / sizeof(Input);
    const int64_t slices = width > kSliceWidth ? ceil_divide(width, kSliceWidth) : 1;
    const int64_t steps = ceil_divide(ceil_divide(width, slices), step);
    EmbeddingLayout layout{};
    layout.width = static_cast<int>(width);
    layout.slices = static_cast<int>(slices);
    layout.slice_width = static_cast<int>((steps > 0 ? steps : 1) * step);
    layout.aligned_rows = aligned_rows;
    layout.scale_high = static_cast<float>(1 / temperature);
    layout.scale_low = static_cast<float>(1 / temperature - layout.scale_high);
    return layout;
  }

  __device__ __forceinline__ float to_logit(float value) const {
    return fmaf(value, scale_high, value * scale_low);
  }
};

// Blocks of a product x y^T: a grid of row_tiles x splits x slices. Those that differ in their
// split stream different columns for the same sums; the last of them to end adds up in the order of
// splits.
struct SplitPlan {
  int row_tiles;
  int column_tiles;
  int slices;
  int splits;
  int tiles_per_split;        // that a block streams; the last split perhaps fewer
  unsigned* finished_splits;  // [row_tiles, slices] splits that have written their part; 0 before
  float* parts;               // [row_tiles, slices, splits, floats of a part]

  int tiles() const { return row_tiles * slices; }

  static SplitPlan make(int64_t rows, int64_t columns, int slices, int target_blocks,
                        int max_splits) {
    SplitPlan plan{};
    plan.row_tiles = static_cast<int>(ceil_divide(rows, kTileRows));
    plan.column_tiles = static_cast<int>(ceil_divide(columns, kTileColumns));
    plan.slices = slices;
    int64_t splits = ceil_divide(plan.column_tiles, kMinTilesPerSplit);
    if (splits > max_splits) splits = max_splits;
    if (plan.tiles() > 0 && splits > ceil_divide(target_blocks, plan.tiles())) {
      splits = ceil_divide(target_blocks, plan.tiles());
    }
    plan.tiles_per_split =
        static_cast<int>(ceil_divide(plan.column_tiles, splits > 1 ? splits : 1));
    plan.splits =
        splits > 1 ? static_cast<int>(ceil_divide(plan.column_tiles, plan.tiles_per_split)) : 1;
    return plan;
  }

  // ---- memory, expected only where columns are split
  size_t counter_bytes() const { return splits > 1 ? ceil_divide(4 * tiles(), 16) * 16 : 0; }
  size_t partial_sum_bytes(int64_t floats) const {
    return splits > 1 ? 4 * static_cast<size_t>(floats) * tiles() * splits : 0;
  }
};

}  // namespace usvs::cuda
