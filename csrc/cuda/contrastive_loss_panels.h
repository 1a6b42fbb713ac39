// Launches the backward pass of the contrastive loss for a width of several slices: panel by panel,
// for the anchors' gradients and then for those of the candidates.
#pragma once
#include <algorithm>

#include "contrastive_loss.h"
#include "kernels/contrastive_loss_panels.cuh"

namespace usvs::cuda {

// Of a panel that is as large as the caches allow.
template <typename Input>
constexpr int kPanelTiles = kPanelColumnTiles / kSumsTiles<Input>;

// One side of the pass, whose rows are anchors or candidates: its panels and its workspace, in the
// order of the fields.
template <typename Input>
struct PanelPass {
  EmbeddingLayout layout;
  PanelPlan panels;
  SplitPlan weights, sums;    // of the largest panel
  int64_t sums_column_tiles;  // of the product
  size_t counter_bytes, partial_bytes, weights_bytes, carried_bytes;

  static PanelPass make(int64_t rows, int64_t columns, const EmbeddingLayout& layout,
                        int64_t panel_tiles) {
    PanelPass pass{};
    pass.layout = layout;
    pass.panels = PanelPlan::make<WeightsTile<Input>>(rows, columns, panel_tiles);
    const int64_t panel_rows = pass.panels.panel_row_tiles * SumsTile::rows;
    const int64_t panel_columns = pass.panels.panel_column_tiles * WeightsTile<Input>::columns;
    pass.weights = SplitPlan::make<WeightsTile<Input>>(panel_rows, panel_columns, 1, kPanelBlocks,
                                                       kMaxSplitsOfLogits);
    pass.sums = SplitPlan::make<SumsTile>(panel_rows, panel_columns, layout.slices, kPanelBlocks,
                                          kMaxSplitsOfGradients);
    pass.sums_column_tiles = ceil_divide(columns, SumsTile::columns);
    const int64_t floats = int64_t{SumsTile::rows} * layout.slice_width;
    pass.counter_bytes = pass.sums.counter_bytes();
    pass.partial_bytes = pass.sums.partial_sum_bytes(floats);
    pass.weights_bytes = pass.panels.weights_bytes();
    pass.carried_bytes = pass.panels.has_all_columns() ? 0 : 4 * floats * pass.sums.tiles();
    return pass;
  }

  size_t bytes() const { return counter_bytes + partial_bytes + weights_bytes + carried_bytes; }

  template <bool kRowsAreAnchors>
  void run(const ContrastiveBackwardParams<Input>& params, void* workspace,
           const Stream& stream) const {
    char* const memory = static_cast<char*>(workspace);
    WeightPanel panel{};
    panel.weights = reinterpret_cast<float4*>(memory + counter_bytes + partial_bytes);
    panel.carried_sums =
        reinterpret_cast<float*>(memory + counter_bytes + partial_bytes + weights_bytes);
    for (int64_t row = 0; row < panels.row_tiles; row += panels.panel_row_tiles) {
      const int64_t row_tiles = std::min(panels.panel_row_tiles, panels.row_tiles - row);
      int64_t column = 0;
      do {  // once even without columns: sums of nothing are written, too
        const int64_t column_tiles =
            std::min(panels.panel_column_tiles, panels.column_tiles - column);
        panel.is_first = column == 0;
        panel.is_last = column + column_tiles >= panels.column_tiles;
        SplitPlan plan = part(weights, row, row_tiles, column, column_tiles);
        if (column_tiles > 0) {
          launch("contrastive_loss_weights",
                 contrastive_loss_weights_kernel<kRowsAreAnchors, Input>,
                 dim3(plan.row_tiles, plan.splits), kThreads, kWeightsSharedBytes<Input>, stream,
                 params, sizeof(Input) == 2 ? layout.in_stages() : layout, plan, panel);
        }
        // Of the last tile of weights, those that have columns.
        const int64_t first_tile = column * kSumsTiles<Input>;
        plan = part(sums, row, row_tiles, first_tile,
                    std::min(column_tiles * kSumsTiles<Input>, sums_column_tiles - first_tile));
        plan.finished = reinterpret_cast<unsigned*>(memory);
        plan.partial_sums = reinterpret_cast<float*>(memory + counter_bytes);
        if (plan.splits > 1) clear(memory, counter_bytes, stream);
        launch("contrastive_loss_weighted_sums",
               contrastive_loss_weighted_sums_kernel<kRowsAreAnchors, Input>,
               dim3(plan.row_tiles, plan.splits, plan.slices), kThreads, kPanelSharedBytes<Input>,
               stream, params, layout, plan, panel);
        column += panels.panel_column_tiles;
      } while (column < panels.column_tiles);
    }
  }

 private:
  // The plan of a panel that may be smaller than the largest, with the same tiles in every split.
  static SplitPlan part(SplitPlan plan, int64_t row, int64_t row_tiles, int64_t column,
                        int64_t column_tiles) {
    plan.first_row_tile = static_cast<int>(row);
    plan.first_column_tile = static_cast<int>(column);
    plan.row_tiles = static_cast<int>(row_tiles);
    plan.column_tiles = static_cast<int>(column_tiles);
    plan.set_splits(
        std::max<int64_t>(1, ceil_divide(column_tiles, std::max(1, plan.tiles_per_split))));
    return plan;
  }
};

// Both sides, one after the other in the same workspace.
template <typename Input>
size_t panel_workspace_bytes(int64_t rows, int64_t columns, const EmbeddingLayout& layout,
                             int64_t panel_tiles) {
  return std::max(PanelPass<Input>::make(rows, columns, layout, panel_tiles).bytes(),
                  PanelPass<Input>::make(columns, rows, layout, panel_tiles).bytes());
}

template <typename Input>
void contrastive_loss_backward_in_panels(const ContrastiveBackwardParams<Input>& params,
                                         const EmbeddingLayout& layout, int64_t panel_tiles,
                                         void* workspace, const Stream& stream) {
  PanelPass<Input>::make(params.rows, params.columns, layout, panel_tiles)
      .template run<true>(params, workspace, stream);
  PanelPass<Input>::make(params.columns, params.rows, layout, panel_tiles)
      .template run<false>(params, workspace, stream);
}

}  // namespace usvs::cuda
