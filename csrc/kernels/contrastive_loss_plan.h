// How a pass of the contrastive loss is divided among blocks. The division depends on the sizes
// alone, never on the device, so the same inputs give the same bits on every GPU.
#pragma once
#include <cstddef>
#include <cstdint>

#include "bfloat16.h"
#include "kernels/simt.h"

namespace usvs::cuda {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kSliceWidth = 128;  // at most this many of the d columns of x and y at once
constexpr int kStageWidth = 64;   // the same in WideTile
template <typename Input, int kWidth = kSliceWidth>
constexpr int kPitch = kWidth + 16 / sizeof(Input);  // elements between rows in shared memory
constexpr int kSumsPitch = kSliceWidth + 4;          // the same for the block's sums

// A tile of x y^T, and how the warps of a block divide it: each has 16 rows; warps that have the
// same rows are in different groups, each of which has columns of its own.
template <int kRowWarps, int kWarpColumns>
struct TileShape {
  static constexpr int row_warps = kRowWarps;
  static constexpr int groups = kWarps / kRowWarps;
  static constexpr int warp_rows = 16;
  static constexpr int rows =
      warp_rows * kRowWarps;  // rows of x that are in a block's shared memory
  static constexpr int warp_columns = kWarpColumns;
  static constexpr int columns = groups * kWarpColumns;  // rows of y that are loaded at a time
  static constexpr int fragments = kWarpColumns / 8;

  // Shared memory of a block: one tile of rows and two of columns.
  template <typename Input>
  static constexpr int tiles_bytes = (rows + 2 * columns) * kPitch<Input> * sizeof(Input);
  // The block's sums, which later overwrite them.
  static constexpr int sums_bytes = rows * kSumsPitch * sizeof(float);
  template <typename Input>
  static constexpr int shared_bytes =
      tiles_bytes<Input> > sums_bytes ? tiles_bytes<Input> : sums_bytes;
};
// Of logits alone. In float32 this takes all the shared memory that a multiprocessor of compute
// capability 8.6 has.
template <typename Input>
using LogitsTile = TileShape<8, sizeof(Input) == 2 ? 64 : 32>;
// Of weights that are multiplied with y at once: the sums take half of the registers.
using SumsTile = TileShape<8, 32>;
// Of at most kFewRows rows, which two warps of the shapes above would have to themselves.
template <typename Input>
using FewRowsTile = TileShape<2, sizeof(Input) == 2 ? 32 : 16>;
constexpr int kFewRows = 64;

// Of bfloat16 logits of a width of several slices. A warp has 64 x 48 of them: it reads 4 + 3
// fragments from shared memory for 24 products, where 16 x 64 would read 1 + 4 for 8. Both x and y
// pass through shared memory, kStageWidth columns of the width at a time.
struct WideTile {
  static constexpr int row_warps = 2;
  static constexpr int groups = kWarps / row_warps;
  static constexpr int warp_rows = 64;
  static constexpr int rows = warp_rows * row_warps;
  static constexpr int warp_columns = 48;
  static constexpr int columns = groups * warp_columns;
  static constexpr int fragments = warp_columns / 8;
  static constexpr int stage_elements = (rows + columns) * kPitch<BFloat16, kStageWidth>;
  // Two stages: one is multiplied while the other is loaded.
  static constexpr int shared_bytes = 2 * stage_elements * static_cast<int>(sizeof(BFloat16));
};

constexpr int kTargetBlocks = 1024;       // four waves of two blocks on each of 132 multiprocessors
constexpr int kMinColumnsPerSplit = 128;  // fewer would not repay loading the block's rows
constexpr int kMaxSplitsOfGradients = 128;  // a block reads 64 KiB for each that it joins
constexpr int kMaxSplitsOfLogits = 128;     // the last block reads 1 KiB for each split
constexpr int kSplitsPerJoin = 16;          // partial sums of gradients that one block adds
constexpr int kPanelBlocks = 256;           // one wave of two blocks on each of 132 multiprocessors
constexpr int kPanelColumnTiles =
    2048;  // of 32 columns: 32 MiB of weights, which fit into the caches of an A100 or H100
constexpr int kMinPanelRowTiles = 8;  // of a panel that does not have all columns

constexpr int64_t ceil_divide(int64_t count, int64_t by) { return (count + by - 1) / by; }

// How the embedding width d is divided into slices.
struct EmbeddingLayout {
  int width;          // d
  int slices;         // number of slices of the width
  int slice_width;    // columns of a slice, a multiple of a tensor core's depth
  bool aligned_rows;  // every row starts at a multiple of 16 bytes

  template <typename Input>
  static EmbeddingLayout make(int64_t width, bool aligned_rows) {
    constexpr int step = 64 / sizeof(Input);
    const int64_t slices = width > kSliceWidth ? ceil_divide(width, kSliceWidth) : 1;
    const int64_t steps = ceil_divide(ceil_divide(width, slices), step);
    EmbeddingLayout layout{};
    layout.width = static_cast<int>(width);
    layout.slices = static_cast<int>(slices);
    layout.slice_width = static_cast<int>((steps > 0 ? steps : 1) * step);
    layout.aligned_rows = aligned_rows;
    return layout;
  }
  // The same width in slices of WideTile.
  EmbeddingLayout in_stages() const {
    EmbeddingLayout layout = *this;
    layout.slices = width > 0 ? static_cast<int>(ceil_divide(width, kStageWidth)) : 1;
    layout.slice_width = kStageWidth;
    return layout;
  }
};

// The grid of a product x y^T: row_tiles x splits x slices blocks. Blocks that differ in their
// split alone go through different columns for the same sums, which are added in the order of the
// splits by the last of them to finish. More than kSplitsPerJoin are added in two levels: the last
// of so many adds these, and the last to do that adds their sums.
struct SplitPlan {
  int first_row_tile, first_column_tile;  // 0 unless the product is a part of a larger one
  int row_tiles;
  int column_tiles;
  int slices;
  int splits;
  int tiles_per_split;  // column tiles of a block; the last split may have fewer
  int joins;            // sums of kSplitsPerJoin splits each; 0 if there is one level
  unsigned* finished;  // [row_tiles, slices, joins + 1] splits of each join that have written their
                       // sums, and joins that have; 0 at launch
  float* partial_sums;  // [row_tiles, slices, splits + joins, partial_floats]

  int tiles() const { return row_tiles * slices; }

  template <typename Shape>
  static SplitPlan make(int64_t rows, int64_t columns, int slices, int target_blocks,
                        int max_splits) {
    SplitPlan plan{};
    plan.row_tiles = static_cast<int>(ceil_divide(rows, Shape::rows));
    plan.column_tiles = static_cast<int>(ceil_divide(columns, Shape::columns));
    plan.slices = slices;
    constexpr int min_tiles =
        kMinColumnsPerSplit > Shape::columns ? kMinColumnsPerSplit / Shape::columns : 1;
    int64_t splits = ceil_divide(plan.column_tiles, min_tiles);
    if (splits > max_splits) splits = max_splits;
    if (plan.tiles() > 0 && splits > ceil_divide(target_blocks, plan.tiles())) {
      splits = ceil_divide(target_blocks, plan.tiles());
    }
    plan.tiles_per_split =
        static_cast<int>(ceil_divide(plan.column_tiles, splits > 1 ? splits : 1));
    plan.set_splits(splits > 1 ? ceil_divide(plan.column_tiles, plan.tiles_per_split) : 1);
    return plan;
  }
  void set_splits(int64_t count) {
    splits = static_cast<int>(count);
    joins = count > kSplitsPerJoin ? static_cast<int>(ceil_divide(count, kSplitsPerJoin)) : 0;
  }

  // ---- workspace, needed only if there is more than one split
  size_t counter_bytes() const {
    return splits > 1 ? ceil_divide(4 * int64_t{tiles()} * (joins + 1), 16) * 16 : 0;
  }
  size_t partial_sum_bytes(int64_t floats) const {
    return splits > 1 ? 4 * static_cast<size_t>(floats) * tiles() * (splits + joins) : 0;
  }
};

// How the weights of a width of several slices are divided into panels, which are computed and used
// one after the other.
struct PanelPlan {
  int64_t row_tiles, column_tiles;              // of the product
  int64_t panel_row_tiles, panel_column_tiles;  // of a panel; those at the ends may have fewer
  int64_t tile_floats;                          // weights of a tile

  template <typename Shape>
  static PanelPlan make(int64_t rows, int64_t columns, int64_t panel_tiles) {
    PanelPlan plan{};
    plan.row_tiles = ceil_divide(rows, Shape::rows);
    plan.column_tiles = ceil_divide(columns, Shape::columns);
    plan.tile_floats = int64_t{Shape::rows} * Shape::columns;
    const int64_t all_columns = panel_tiles / (plan.column_tiles > 0 ? plan.column_tiles : 1);
    const int64_t row_tiles = all_columns > kMinPanelRowTiles ? all_columns : kMinPanelRowTiles;
    plan.panel_row_tiles = row_tiles < plan.row_tiles ? row_tiles : plan.row_tiles;
    const int64_t column_tiles =
        panel_tiles / (plan.panel_row_tiles > 0 ? plan.panel_row_tiles : 1);
    plan.panel_column_tiles = column_tiles < plan.column_tiles ? column_tiles : plan.column_tiles;
    if (plan.panel_column_tiles < 1) plan.panel_column_tiles = 1;
    return plan;
  }

  bool has_all_columns() const { return panel_column_tiles >= column_tiles; }
  size_t weights_bytes() const {
    return 4 * static_cast<size_t>(tile_floats) * panel_row_tiles * panel_column_tiles;
  }
};

}  // namespace usvs::cuda
