// How a pass of the contrastive loss is cut into blocks. Sizes alone decide, never the device, so
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
constexpr int kParts = kTileColumns / 8;
template <typename Input>
constexpr int kPitch = kSliceWidth + 16 / sizeof(Input);  // from row to row in shared memory
constexpr int kSumsPitch = kSliceWidth + 4;               // the same where sums lie there

// Shared memory of a block: one owned and two streamed tiles, whose place its sums take in the end.
// In float32 that is all that a multiprocessor of compute capability 8.6 has.
template <typename Input>
constexpr int kTilesBytes = (kTileRows + 2 * kTileColumns) * kPitch<Input> * sizeof(Input);
constexpr int kSumsBytes = kTileRows * kSumsPitch * sizeof(float);
template <typename Input>
constexpr int kSharedBytes = kTilesBytes<Input> > kSumsBytes ? kTilesBytes<Input> : kSumsBytes;

constexpr int kWantedBlocks = 1024;       // four waves of two blocks on each of 132 multiprocessors
constexpr int kLeastTiles = 4;            // streamed by a block, or loading its rows would not pay
constexpr int kMostSplitsOfSums = 32;     // what the last block adds up: 64 KiB a split
constexpr int kMostSplitsOfLogits = 128;  // 1 KiB a split

constexpr int64_t divided_up(int64_t count, int64_t by) { return (count + by - 1) / by; }

// How the width is gone through, and what turns similarities into logits.
struct Geometry {
  int width;        // d
  int slices;       // of the width
  int slice_width;  // columns of a slice, whole steps of the tensor cores
  bool vectors;     // rows begin at multiples of 16 bytes
  // 1 / T in two parts: in one, it would cost logits half a unit of their last place.
  float scale_high, scale_low;

  template <typename Input>
  static Geometry of(int64_t width, bool vectors, double temperature) {
    constexpr int step = 64 / sizeof(Input);
    const int64_t slices = width > kSliceWidth ? divided_up(width, kSliceWidth) : 1;
    const int64_t steps = divided_up(divided_up(width, slices), step);
    Geometry geometry{};
    geometry.width = static_cast<int>(width);
    geometry.slices = static_cast<int>(slices);
    geometry.slice_width = static_cast<int>((steps > 0 ? steps : 1) * step);
    geometry.vectors = vectors;
    geometry.scale_high = static_cast<float>(1 / temperature);
    geometry.scale_low = static_cast<float>(1 / temperature - geometry.scale_high);
    return geometry;
  }

  __device__ __forceinline__ float scaled(float value) const {
    return fmaf(value, scale_high, value * scale_low);
  }
};

// Blocks of a product x y^T: a grid of row_tiles x splits x slices. Those that differ in their
// split stream different columns for the same sums; the last of them to end adds up in the order of
// splits.
struct Cut {
  int row_tiles;
  int column_tiles;
  int slices;
  int splits;
  int split_tiles;  // that a block streams; the last split perhaps fewer
  unsigned* done;   // [row_tiles, slices] splits that have written their part; 0 before
  float* parts;     // [row_tiles, slices, splits, floats of a part]

  int tiles() const { return row_tiles * slices; }

  static Cut of(int64_t rows, int64_t columns, int slices, int wanted_blocks, int most_splits) {
    Cut cut{};
    cut.row_tiles = static_cast<int>(divided_up(rows, kTileRows));
    cut.column_tiles = static_cast<int>(divided_up(columns, kTileColumns));
    cut.slices = slices;
    int64_t splits = divided_up(cut.column_tiles, kLeastTiles);
    if (splits > most_splits) splits = most_splits;
    if (cut.tiles() > 0 && splits > divided_up(wanted_blocks, cut.tiles())) {
      splits = divided_up(wanted_blocks, cut.tiles());
    }
    cut.split_tiles = static_cast<int>(divided_up(cut.column_tiles, splits > 1 ? splits : 1));
    cut.splits = splits > 1 ? static_cast<int>(divided_up(cut.column_tiles, cut.split_tiles)) : 1;
    return cut;
  }

  // ---- memory, expected only where columns are split
  size_t done_bytes() const { return splits > 1 ? divided_up(4 * tiles(), 16) * 16 : 0; }
  size_t parts_bytes(int64_t floats) const {
    return splits > 1 ? 4 * static_cast<size_t>(floats) * tiles() * splits : 0;
  }
};

}  // namespace usvs::cuda
