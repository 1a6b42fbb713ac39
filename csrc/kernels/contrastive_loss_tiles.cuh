// Tiles of embeddings in shared memory, and how a block goes through the columns of x y^T.
//
//               y: streamed, two buffers           x     owned: 128 rows of a block, 16 of a warp
//              +----+----+----+----+----+          y     streamed: 32 (float32) or 64 rows at a
//              time | finished_splits    |now |next|    |          tile  of x y^T: never leaves
//              registers
//              +----+----+----+----+----+          slice at most 128 of the d columns of x and y
//   +------+   +----+----+----+----+----+
//   |  x   |   |         |tile|    .    |  warp 0  A row lies in shared memory with 16 bytes behind
//   | 128  |   |         |    |    .    |  warp 1  it: ldmatrix then finds every row in banks of
//   its | rows |   |         |    |    .    |   ...    own. Behind an anchor's row lies what else
//   is
//   +------+   +----+----+----+----+----+          known of it: struct AnchorMetadata.
#pragma once
#include "contrastive_loss.h"
#include "kernels/contrastive_loss_plan.h"
#include "kernels/contrastive_loss_products.cuh"
#include "kernels/simt.h"

namespace usvs::cuda {

struct AnchorMetadata {
  float logsumexp;
  float weight;  // its loss's gradient / T
  int self;      // the candidate that it is itself, or -1
};

// The two operands of a product: x is owned, y streamed, one of them anchors and one candidates.
template <bool kRowsAreAnchors, typename Input>
struct Operands {
  const Input* x;  // [rows, width]
  const Input* y;  // [columns, width]
  int rows, columns;

  __device__ __forceinline__ explicit Operands(const ContrastiveLossParams<Input>& params)
      : x(kRowsAreAnchors ? params.anchors : params.candidates),
        y(kRowsAreAnchors ? params.candidates : params.anchors),
        rows(static_cast<int>(kRowsAreAnchors ? params.rows : params.columns)),
        columns(static_cast<int>(kRowsAreAnchors ? params.columns : params.rows)) {}
};

// Which part of the product a block computes.
struct BlockTile {
  int row_tile;

  __device__ __forceinline__ int first_row() const { return row_tile * kTileRows; }
  __device__ __forceinline__ int split() const { return blockIdx.y; }
  // The slice of y that the tile of weights is multiplied with.
  __device__ __forceinline__ int sums_slice() const { return blockIdx.z; }
  // Of the sums: an index into SplitPlan::finished_splits.
  __device__ __forceinline__ int tile(const SplitPlan& plan) const {
    return row_tile * plan.slices + sums_slice();
  }
  __device__ __forceinline__ int begin(const SplitPlan& plan) const {
    return split() * plan.tiles_per_split;
  }
  __device__ __forceinline__ int end(const SplitPlan& plan) const {
    return min(begin(plan) + plan.tiles_per_split, plan.column_tiles);
  }
};

// How many of a tile's rows there are.
__device__ __forceinline__ int owned_rows(int64_t rows, const BlockTile& block_tile) {
  return static_cast<int>(min(int64_t{kTileRows}, rows - block_tile.first_row()));
}

// Copies rows first ... of matrix [rows, width], columns begin ... of it, with zeros beyond its
// ends. What is copied can be read after cp_async_wait and a barrier.
template <int kRows, typename Input>
__device__ __forceinline__ void load_tile(Input* tile, const Input* matrix, int first, int rows,
                                          int begin, const EmbeddingLayout& layout) {
  constexpr int kVector = 16 / sizeof(Input), kLanes = kSliceWidth / kVector;
  const int width = layout.width;
  if (layout.aligned_rows) {
    const int column = threadIdx.x % kLanes * kVector;
    if (column >= layout.slice_width) return;
#pragma unroll 1  // addresses of several rows would not fit into the registers
    for (int row = threadIdx.x / kLanes; row < kRows; row += kThreads / kLanes) {
      const bool inside = first + row < rows && begin + column < width;
      const int64_t from =
          int64_t{first + row} * width + begin + column;  // not read beyond the ends
      cp_async_16(&tile[row * kPitch<Input> + column], &matrix[from], inside);
    }
    return;
  }
#pragma unroll 1
  for (int row = threadIdx.x / 32; row < kRows; row += kWarps) {
#pragma unroll 1
    for (int column = threadIdx.x % 32; column < layout.slice_width; column += 32) {
      const bool inside = first + row < rows && begin + column < width;
      Input value{};
      if (inside) value = matrix[int64_t{first + row} * width + begin + column];
      tile[row * kPitch<Input> + column] = value;
    }
  }
}

// The assign_workspace behind a row of a tile.
template <typename Input>
__device__ __forceinline__ AnchorMetadata& row_metadata(Input* row) {
  return *reinterpret_cast<AnchorMetadata*>(&row[kSliceWidth]);
}
template <typename Input>
__device__ __forceinline__ const AnchorMetadata& row_metadata(const Input* row) {
  return *reinterpret_cast<const AnchorMetadata*>(&row[kSliceWidth]);
}

// A step of a block: one slice of one tile of columns.
struct KStep {
  int tile;         // of columns
  int slices_done;  // how many slices of this tile went before
  int slice;        // of the width

  __device__ __forceinline__ KStep next(int slices) const {
    const int next_slice = slice + 1 < slices ? slice + 1 : 0;
    if (slices_done + 1 < slices) return {tile, slices_done + 1, next_slice};
    return {tile + 1, 0, next_slice};
  }
};

// Goes through the block's block_tile of x y^T a tile at a time. anchor_at(row) is what lies behind
// an anchor's row; use(first column, tile, x rows, y tile) is called by every warp with owned rows,
// for its 16 of them. Of a width of several slices sums_slice comes last, so that it is the one
// that the y tile holds when `use` is called.
template <bool kRowsAreAnchors, typename Input, typename LoadMetadata, typename Use>
__device__ __forceinline__ void stream_tiles(const Operands<kRowsAreAnchors, Input>& operands,
                                             const EmbeddingLayout& layout, const SplitPlan& plan,
                                             const BlockTile& block_tile, Input* shared,
                                             const LoadMetadata& anchor_at, const Use& use) {
  const int thread = threadIdx.x, slices = layout.slices, end = block_tile.end(plan);
  Input* const y_tiles = &shared[kTileRows * kPitch<Input>];
  Input* const x_rows = &shared[thread / 32 * 16 * kPitch<Input>];
  const bool has_rows = block_tile.first_row() + thread / 32 * 16 < operands.rows;
  auto load_x = [&](int slice) {
    load_tile<kTileRows>(shared, operands.x, block_tile.first_row(), operands.rows,
                         slice * layout.slice_width, layout);
    if (kRowsAreAnchors && thread < kTileRows) {
      row_metadata(&shared[thread * kPitch<Input>]) = anchor_at(block_tile.first_row() + thread);
    }
  };
  auto load_y = [&](const KStep& step, int buffer) {
    Input* const tile = &y_tiles[buffer * kTileColumns * kPitch<Input>];
    const int first = step.tile * kTileColumns;
    load_tile<kTileColumns>(tile, operands.y, first, operands.columns,
                            step.slice * layout.slice_width, layout);
    if (!kRowsAreAnchors && thread < kTileColumns) {
      row_metadata(&tile[thread * kPitch<Input>]) = anchor_at(first + thread);
    }
  };
  KStep step{block_tile.begin(plan), 0,
             block_tile.sums_slice() + 1 < slices ? block_tile.sums_slice() + 1 : 0};
  if (step.tile < end) {
    load_x(step.slice);
    load_y(step, 0);
    cp_async_commit();
  }
  float tile[kFragments][4];
  for (int buffer = 0; step.tile < end; buffer ^= 1) {
    const KStep next = step.next(slices);
    cp_async_wait<0>();
    __syncthreads();
    if (next.tile < end) {
      load_y(next, buffer ^ 1);
      cp_async_commit();
    }
    const Input* const y_tile = &y_tiles[buffer * kTileColumns * kPitch<Input>];
    if (has_rows) {
      if (step.slices_done == 0) {
#pragma unroll
        for (auto& sums : tile) sums[0] = sums[1] = sums[2] = sums[3] = 0;
      }
      add_product(x_rows, y_tile, layout, tile);
      if (step.slices_done == slices - 1) use(step.tile * kTileColumns, tile, x_rows, y_tile);
    }
    if (slices > 1 && next.tile < end) {
      __syncthreads();  // the owned tile has been read, and has room for one slice only
      load_x(next.slice);
      cp_async_commit();
    }
    step = next;
  }
}

}  // namespace usvs::cuda
