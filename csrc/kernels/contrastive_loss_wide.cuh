// The loop of a block over the columns of x y^T where bfloat16 embeddings have several slices.
//
// clang-format off
//
//                 y: WideTile::columns at a time      x      128 rows of the block
//                +------+------+------+------+        y      192 rows that pass through shared memory
//                | done | now  | next |      |        tile   of x y^T, 64 x 48 for each warp, in registers
//                +------+------+------+------+        stage  64 of the d columns of x and y, two buffers
//     +------+   +------+------+------+------+
//     |  x   |   |      |0 2 4 6      |      |  warps 0, 2, 4, 6: 64 rows, 48 columns each
//     | 128  |   |      |1 3 5 7      |      |  warps 1, 3, 5, 7
//     +------+   +------+------+------+------+
//
// clang-format on
//
// Both x and y are loaded anew for every tile: a quarter of the bytes that pass through shared
// memory, where a stage is read 2.8 times.
#pragma once
#include "kernels/contrastive_loss_tiles.cuh"

namespace usvs::cuda {

// tile += x y^T over a stage: 64 rows of x, 48 rows of y. The products of a stage are added up
// before they are added to those of the stages before: a tensor core rounds its sums towards zero.
__device__ __forceinline__ void add_stage(
    const BFloat16* x, const BFloat16* y,
    float (&tile)[WideTile::warp_rows / 16][WideTile::fragments][4]) {
  using Core = TensorCore<BFloat16>;
  constexpr int kBlocks = WideTile::warp_rows / 16, kSteps = kStageWidth / 16;
  constexpr int pitch = kPitch<BFloat16, kStageWidth>;
  const int lane = threadIdx.x % 32;
  const BFloat16* const x_row = &x[lane % 16 * pitch + lane / 16 * 8];
  const BFloat16* const y_row = &y[(lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 8];
  uint32_t a[kBlocks][kSteps][4];
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      ldmatrix_x4(a[block][step], &x_row[16 * block * pitch + 16 * step]);
    }
  }
#pragma unroll
  for (int fragment = 0; fragment < WideTile::fragments; fragment += 2) {
    float products[kBlocks][2][4] = {};
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t words[4];
      ldmatrix_x4(words, &y_row[8 * fragment * pitch + 16 * step]);
      const Core::Right b0 = Core::right(words[0], words[1]), b1 = Core::right(words[2], words[3]);
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        mma_m16n8k16_bf16(products[block][0], a[block][step], b0.bits);
        mma_m16n8k16_bf16(products[block][1], a[block][step], b1.bits);
      }
    }
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      add(products[block][0], tile[block][fragment]);
      add(products[block][1], tile[block][fragment + 1]);
    }
  }
}

// stream_tiles for WideTile. use(first column, i, tile, x rows, y rows, has_self) is called for
// each 16 rows 16 i ... of the warp; the metadata of anchors are behind kStageWidth columns of
// their rows.
template <bool kRowsAreAnchors, typename Anchors, typename Use>
__device__ __forceinline__ void stream_wide_tiles(
    const Operands<kRowsAreAnchors, BFloat16>& operands, const EmbeddingLayout& layout,
    const SplitPlan& plan, const BlockTile<WideTile>& block_tile, BFloat16* shared,
    const Anchors& anchors, const Use& use) {
  constexpr int kBlocks = WideTile::warp_rows / 16, pitch = kPitch<BFloat16, kStageWidth>;
  const int thread = threadIdx.x, last_slice = layout.slices - 1;
  const int end = block_tile.end_column_tile(plan);
  const int warp_column = column_group<WideTile>() * WideTile::warp_columns;
  const int warp_x = row_warp<WideTile>() * WideTile::warp_rows * pitch;
  const int warp_y = (WideTile::rows + warp_column) * pitch;
  const bool has_rows = block_tile.warp_row() < operands.rows;
  auto y_metadata = [&](int buffer) -> AnchorMetadata& {
    const int row = buffer * WideTile::stage_elements + (WideTile::rows + thread) * pitch;
    return row_metadata<kStageWidth>(&shared[row]);
  };
  auto load = [&](const KStep& step, int buffer) {
    const int begin = step.slice * kStageWidth, first = step.tile * WideTile::columns;
    BFloat16* const x = &shared[buffer * WideTile::stage_elements];
    load_tile<WideTile::rows, kStageWidth>(x, operands.x, block_tile.first_row(), operands.rows,
                                           begin, layout);
    load_tile<WideTile::columns, kStageWidth>(&x[WideTile::rows * pitch], operands.y, first,
                                              operands.columns, begin, layout);
    if (!kRowsAreAnchors && step.slice == last_slice && thread < WideTile::columns) {
      anchors.copy(first + thread, y_metadata(buffer));
    }
    cp_async_commit();
  };
  KStep step{block_tile.first_column_tile(plan), 0};
  if (step.tile >= end) return;
  if (kRowsAreAnchors && thread < WideTile::rows) {
    // Need no anchors.complete: what a row without a loss has here changes no other row.
    anchors.copy(block_tile.first_row() + thread,
                 row_metadata<kStageWidth>(&shared[thread * pitch]));
  }
  load(step, 0);
  float tile[kBlocks][WideTile::fragments][4] = {};
#pragma unroll 1
  for (int buffer = 0; step.tile < end; buffer ^= 1) {
    const BFloat16* const stage = &shared[buffer * WideTile::stage_elements];
    cp_async_wait<0>();
    int has_self = 0;
    if (kRowsAreAnchors) {
      __syncthreads();
    } else {
      if (step.slice == last_slice && thread < WideTile::columns) {
        const int anchor = step.tile * WideTile::columns + thread;
        AnchorMetadata& metadata = y_metadata(buffer);  // that this thread copied
        anchors.complete(anchor, metadata);
        has_self = anchor < operands.columns &&
                   (metadata.logsumexp == INFINITY ||
                    static_cast<unsigned>(metadata.self - block_tile.first_row()) < WideTile::rows);
      }
      has_self = __syncthreads_or(has_self);
    }
    step = step.next(layout.slices);
    if (step.tile < end) load(step, buffer ^ 1);
    if (has_rows) {
      add_stage(&stage[warp_x], &stage[warp_y], tile);
      if (step.slice == 0) {  // the tile before it is complete
#pragma unroll
        for (int block = 0; block < kBlocks; ++block) {
          use((step.tile - 1) * WideTile::columns + warp_column, block, tile[block],
              &shared[warp_x + 16 * block * pitch], &stage[warp_y], has_self);
#pragma unroll
          for (auto& fragment : tile[block]) {
#pragma unroll
            for (float& value : fragment) value = 0;
          }
        }
      }
    }
  }
}

}  // namespace usvs::cuda
