// Tiles of embeddings in shared memory, and the loop of a block over the columns of x y^T.
//
// clang-format off
//
//                 y: TileShape::columns at a time, two buffers
//                +------+------+------+------+------+     x      rows of the block, 16 for each warp
//                | done | done | now  | next |      |     y      rows that pass through shared memory
//                +------+------+------+------+------+     tile   of x y^T, 16 x 64 (bfloat16 logits) or
//                                                                16 x 32 for each warp, in registers
//     +------+   +------+------+------+------+------+     slice  at most 128 of the d columns of x and y
//     |  x   |   |      |      | tile |      |      |  warp 0
//     | 128  |   |      |      | tile |      |      |  warp 1
//     | rows |   |      |      | tile |      |      |   ...
//     +------+   +------+------+------+------+------+
//
// Few rows (FewRowsTile) belong to two warps; the other groups of two have columns of their own:
//
//     +------+   +------+---------+---------+-------+
//     |  x   |   |      | group 0 | group 1 |  ...  |  warps 0, 2, 4, 6
//     |  32  |   |      |         |         |       |  warps 1, 3, 5, 7
//     +------+   +------+---------+---------+-------+
//
// clang-format on
//
// A row in shared memory is followed by 16 bytes of padding, so that ldmatrix reads the rows of a
// matrix from different banks. The padding of an anchor's row holds its AnchorMetadata.
#pragma once
#include "contrastive_loss.h"
#include "kernels/contrastive_loss_plan.h"
#include "kernels/contrastive_loss_products.cuh"
#include "kernels/simt.h"

namespace usvs::cuda {

struct alignas(16) AnchorMetadata {
  float logsumexp;  // +inf for a row without weight
  float weight;     // gradient of its loss
  int self;         // index of the anchor among the candidates; -1 if it is not there
  int self_high;    // upper half of the index, until the metadata are completed
};

// Copies an anchor's index to its metadata, asynchronously. If not `inside`, it is not read, and
// becomes 0.
__device__ __forceinline__ void copy_self_index(AnchorMetadata& to, const int64_t* self_index,
                                                bool inside) {
  const int* const halves = reinterpret_cast<const int*>(self_index);
  cp_async_4(&to.self, &halves[0], inside);
  cp_async_4(&to.self_high, &halves[1], inside);
}

// The operands of a product x y^T: anchors and candidates, or candidates and anchors.
template <bool kRowsAreAnchors, typename Input>
struct Operands {
  const Input* x;  // [rows, width]
  const Input* y;  // [columns, width]
  int rows, columns;

  __device__ __forceinline__ explicit Operands(const ContrastiveLossInputs<Input>& params)
      : x(kRowsAreAnchors ? params.anchors : params.candidates),
        y(kRowsAreAnchors ? params.candidates : params.anchors),
        rows(static_cast<int>(kRowsAreAnchors ? params.rows : params.columns)),
        columns(static_cast<int>(kRowsAreAnchors ? params.columns : params.rows)) {}
};

// The rows of this warp in a tile, and its group: see TileShape.
template <typename Shape>
__device__ __forceinline__ int row_warp() {
  return threadIdx.x / 32 % Shape::row_warps;
}
template <typename Shape>
__device__ __forceinline__ int column_group() {
  if constexpr (Shape::groups == 1) return 0;
  return threadIdx.x / 32 / Shape::row_warps;
}

// The part of a product that a block computes: a row tile, a split of the columns and a slice of
// the sums.
template <typename Shape>
struct BlockTile {
  int row_tile;

  __device__ __forceinline__ int first_row() const { return row_tile * Shape::rows; }
  // Of the rows of this warp.
  __device__ __forceinline__ int warp_row() const {
    return first_row() + Shape::warp_rows * row_warp<Shape>();
  }
  __device__ __forceinline__ int split() const { return blockIdx.y; }
  // The slice of y that the weights are multiplied with.
  __device__ __forceinline__ int sums_slice() const { return blockIdx.z; }
  // Index of a row tile and a slice in the workspace of a SplitPlan.
  __device__ __forceinline__ int sums_index(const SplitPlan& plan) const {
    return (row_tile - plan.first_row_tile) * plan.slices + sums_slice();
  }
  __device__ __forceinline__ int first_column_tile(const SplitPlan& plan) const {
    return plan.first_column_tile + split() * plan.tiles_per_split;
  }
  __device__ __forceinline__ int end_column_tile(const SplitPlan& plan) const {
    return min(first_column_tile(plan) + plan.tiles_per_split,
               plan.first_column_tile + plan.column_tiles);
  }
  // Number of rows of the row tile that exist.
  __device__ __forceinline__ int owned_rows(int64_t rows) const {
    return static_cast<int>(min(int64_t{Shape::rows}, rows - first_row()));
  }
};

// Copies rows first ... and columns begin ... of a matrix [rows, width] into a tile, with zeros
// outside the matrix. The tile may be read after cp_async_wait and a barrier.
template <int kRows, int kWidth = kSliceWidth, typename Input>
__device__ __forceinline__ void load_tile(Input* tile, const Input* matrix, int first, int rows,
                                          int begin, const EmbeddingLayout& layout) {
  constexpr int kVector = 16 / sizeof(Input), kLanes = kWidth / kVector;
  constexpr int kStep = kThreads / kLanes;  // rows that all threads copy at once
  const int width = layout.width;
  if (layout.aligned_rows) {
    const int row = threadIdx.x / kLanes, column = threadIdx.x % kLanes * kVector;
    if (column >= layout.slice_width) return;
    // Of a row or a column outside of the matrix the address is not used.
    const Input* from = &matrix[int64_t{first + row} * width + begin + column];
    Input* const to = &tile[row * kPitch<Input, kWidth> + column];
#pragma unroll kRows <= 8 * kStep&& kWidth < kSliceWidth ? 8 : kRows <= 4 * kStep ? 4 : 1
    for (int i = 0; i < kRows / kStep; ++i, from += int64_t{kStep} * width) {
      const bool inside = first + row + i * kStep < rows && begin + column < width;
      cp_async_16(&to[i * kStep * kPitch<Input, kWidth>], from, inside);
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
      tile[row * kPitch<Input, kWidth> + column] = value;
    }
  }
}

// The padding behind a row of a tile.
template <int kWidth = kSliceWidth, typename Input>
__device__ __forceinline__ AnchorMetadata& row_metadata(Input* row) {
  return *reinterpret_cast<AnchorMetadata*>(&row[kWidth]);
}
template <int kWidth = kSliceWidth, typename Input>
__device__ __forceinline__ const AnchorMetadata& row_metadata(const Input* row) {
  return *reinterpret_cast<const AnchorMetadata*>(&row[kWidth]);
}

// Sets the rows without weight of a tile of anchors to zero: times their weight of 0, a NaN there
// would be a NaN in every candidate's gradient. All threads of the block must call this; the tile
// may be read when it returns.
template <int kRows, typename Input>
__device__ void clear_rows_without_weight(Input* tile, const EmbeddingLayout& layout) {
#pragma unroll 1  // rarely executed
  for (int row = threadIdx.x / 32; row < kRows; row += kWarps) {
    if (row_metadata(&tile[row * kPitch<Input>]).logsumexp != INFINITY) continue;
#pragma unroll 1
    for (int column = threadIdx.x % 32; column < layout.slice_width; column += 32) {
      tile[row * kPitch<Input> + column] = Input{};
    }
  }
  __syncthreads();
}

// One step of a block: one slice of one tile of columns.
struct KStep {
  int tile;   // index of a tile of columns
  int slice;  // index of a slice of the width

  __device__ __forceinline__ KStep next(int slices) const {
    return slice + 1 < slices ? KStep{tile, slice + 1} : KStep{tile + 1, 0};
  }
};

// Computes the block's part of x y^T, one tile of columns after the other. anchors.copy(row, to)
// starts the copy of what an anchor's metadata are made of, and anchors.complete(row, at) makes
// them of it; use(first column, tile, x rows, y rows, has_self) is called by every warp that has
// rows, for these and its columns. If columns are anchors, has_self says whether any of them may be
// one of the block's rows. The products of a slice are added up before they are added to those of
// the slices before: of large logits, each addition to the whole would round more away.
template <typename Shape, bool kOneSlice, bool kKeepsRows, bool kRowsAreAnchors, typename Input,
          typename Anchors, typename Use>
__device__ __forceinline__ void stream_tiles(const Operands<kRowsAreAnchors, Input>& operands,
                                             const EmbeddingLayout& layout, const SplitPlan& plan,
                                             const BlockTile<Shape>& block_tile, Input* shared,
                                             const Anchors& anchors, const Use& use) {
  static_assert(!kKeepsRows || kOneSlice, "rows of one slice stay in registers");
  const int thread = threadIdx.x, slices = kOneSlice ? 1 : layout.slices;
  const int end = block_tile.end_column_tile(plan);
  const int warp_column = column_group<Shape>() * Shape::warp_columns;
  Input* const y_tiles = &shared[Shape::rows * kPitch<Input>];
  Input* const x_rows = &shared[row_warp<Shape>() * 16 * kPitch<Input>];
  const bool has_rows = block_tile.warp_row() < operands.rows;
  auto load_x = [&](int slice) {
    load_tile<Shape::rows>(shared, operands.x, block_tile.first_row(), operands.rows,
                           slice * layout.slice_width, layout);
  };
  auto load_y = [&](const KStep& step, int buffer) {
    const int first = step.tile * Shape::columns;
    Input* const tile = &y_tiles[buffer * Shape::columns * kPitch<Input>];
    load_tile<Shape::columns>(tile, operands.y, first, operands.columns,
                              step.slice * layout.slice_width, layout);
    if (!kRowsAreAnchors && thread < Shape::columns) {
      anchors.copy(first + thread, row_metadata(&tile[thread * kPitch<Input>]));
    }
  };
  KStep step{block_tile.first_column_tile(plan), 0};
  LeftRows<Input, kKeepsRows> left(x_rows);
  if (step.tile < end) {
    AnchorMetadata& row_anchor = row_metadata(&shared[thread * kPitch<Input>]);
    load_x(step.slice);
    if (kRowsAreAnchors && thread < Shape::rows) {
      anchors.copy(block_tile.first_row() + thread, row_anchor);
    }
    cp_async_commit();
    load_y(step, 0);
    cp_async_commit();
    if (kRowsAreAnchors) {
      cp_async_wait<1>();
      if (thread < Shape::rows) anchors.complete(block_tile.first_row() + thread, row_anchor);
    }
    if constexpr (kKeepsRows) {
      __syncthreads();  // all threads have copied x
      left.load(layout);
    }
  }
  float tile[Shape::fragments][4];
  for (int buffer = 0; step.tile < end; buffer ^= 1) {
    const KStep next = step.next(slices);
    cp_async_wait<0>();
    Input* const y_tile = &y_tiles[buffer * Shape::columns * kPitch<Input>];
    int is_special = 0;
    if (kRowsAreAnchors) {
      __syncthreads();
    } else {
      // Of the anchors that this thread copied.
      if (thread < Shape::columns) {
        const int anchor = step.tile * Shape::columns + thread;
        AnchorMetadata& metadata = row_metadata(&y_tile[thread * kPitch<Input>]);
        anchors.complete(anchor, metadata);
        is_special = anchor < operands.columns &&
                     (metadata.logsumexp == INFINITY ||
                      static_cast<unsigned>(metadata.self - block_tile.first_row()) < Shape::rows);
      }
      is_special = __syncthreads_or(is_special);
      if (is_special) clear_rows_without_weight<Shape::columns>(y_tile, layout);
    }
    if (next.tile < end) {
      load_y(next, buffer ^ 1);
      cp_async_commit();
    }
    if (has_rows) {
      Input* const y_rows = &y_tile[warp_column * kPitch<Input>];
      float products[Shape::fragments][4] = {};
      add_product(left, y_rows, layout, products);
#pragma unroll
      for (int fragment = 0; fragment < Shape::fragments; ++fragment) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& value = tile[fragment][i];
          value =
              kOneSlice || step.slice == 0 ? products[fragment][i] : value + products[fragment][i];
        }
      }
      if (step.slice == slices - 1) {
        use(step.tile * Shape::columns + warp_column, tile, x_rows, y_rows, is_special);
      }
    }
    if (slices > 1 && next.tile < end) {
      __syncthreads();  // all warps have read x, which has room for one slice only
      load_x(next.slice);
      cp_async_commit();
    }
    step = next;
  }
}

}  // namespace usvs::cuda
