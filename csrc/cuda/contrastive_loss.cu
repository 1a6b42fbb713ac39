// Launches the contrastive loss: divides the work among blocks and lays out the workspace.
#include <algorithm>

#include "contrastive_loss.h"
#include "cuda/contrastive_loss_panels.h"
#include "kernels/contrastive_loss_backward.cuh"
#include "kernels/contrastive_loss_forward.cuh"

namespace usvs::cuda {
namespace {

// How a pass is launched. The forward pass has one split plan; the backward pass one for the
// anchors and one for the candidates.
struct LaunchPlan {
  EmbeddingLayout layout;
  SplitPlan splits[2] = {};
  int64_t partial_floats[2] = {};
  bool few_rows;  // anchors, in FewRowsTile

  template <typename Input>
  static LaunchPlan make(Pass pass, int64_t rows, int64_t columns, int64_t width,
                         bool aligned_rows) {
    LaunchPlan plan{};
    plan.layout = EmbeddingLayout::make<Input>(width, aligned_rows);
    plan.few_rows = rows <= kFewRows && plan.layout.slices == 1;
    if (pass == Pass::forward) {
      plan.set_anchors<Input, LogitsTile<Input>>(rows, columns, kTargetBlocks, kMaxSplitsOfLogits);
      if (plan.is_wide<Input>()) {
        plan.splits[0] =
            SplitPlan::make<WideTile>(rows, columns, 1, kTargetBlocks, kMaxSplitsOfLogits);
      }
      plan.splits[0].joins = 0;  // the lanes of the last block divide all splits
      plan.partial_floats[0] = 2 * plan.tile_rows<Input>();  // largest and sum
    } else {
      plan.set_anchors<Input, SumsTile>(rows, columns, kTargetBlocks / 2, kMaxSplitsOfGradients);
      plan.splits[1] =
          SplitPlan::make<SumsTile>(columns, rows, 1, kTargetBlocks / 2, kMaxSplitsOfGradients);
      plan.partial_floats[0] = plan.tile_rows<Input>() * plan.layout.slice_width;
      plan.partial_floats[1] = int64_t{SumsTile::rows} * plan.layout.slice_width;
    }
    return plan;
  }
  template <typename Input, typename ManyRowsTile>
  void set_anchors(int64_t rows, int64_t columns, int target_blocks, int max_splits) {
    splits[0] =
        few_rows ? SplitPlan::make<FewRowsTile<Input>>(rows, columns, 1, target_blocks, max_splits)
                 : SplitPlan::make<ManyRowsTile>(rows, columns, 1, target_blocks, max_splits);
  }
  // Whether the forward pass uses WideTile.
  template <typename Input>
  bool is_wide() const {
    return sizeof(Input) == 2 && layout.slices > 1;
  }
  template <typename Input>
  int64_t tile_rows() const {
    return few_rows ? FewRowsTile<Input>::rows : SumsTile::rows;
  }

  size_t counter_bytes() const { return splits[0].counter_bytes() + splits[1].counter_bytes(); }
  size_t bytes() const {
    return counter_bytes() + splits[0].partial_sum_bytes(partial_floats[0]) +
           splits[1].partial_sum_bytes(partial_floats[1]);
  }
  // Sets the workspace pointers of the split plans and clears the counters.
  void assign_workspace(void* workspace, const Stream& stream) {
    char* const memory = static_cast<char*>(workspace);
    if (counter_bytes() > 0) clear(memory, counter_bytes(), stream);
    splits[0].finished = reinterpret_cast<unsigned*>(memory);
    splits[1].finished = reinterpret_cast<unsigned*>(memory + splits[0].counter_bytes());
    splits[0].partial_sums = reinterpret_cast<float*>(memory + counter_bytes());
    splits[1].partial_sums = reinterpret_cast<float*>(
        memory + counter_bytes() + splits[0].partial_sum_bytes(partial_floats[0]));
  }
};

template <typename Input>
bool rows_are_aligned(const ContrastiveLossInputs<Input>& params) {
  const auto addresses =
      reinterpret_cast<uintptr_t>(params.anchors) | reinterpret_cast<uintptr_t>(params.candidates);
  return addresses % 16 == 0 && params.width * sizeof(Input) % 16 == 0;
}

template <typename Input>
LaunchPlan make_launch_plan(Pass pass, const ContrastiveLossInputs<Input>& params) {
  return LaunchPlan::make<Input>(pass, params.rows, params.columns, params.width,
                                 rows_are_aligned(params));
}

}  // namespace

template <typename Input>
size_t contrastive_loss_workspace_bytes(Pass pass, int64_t rows, int64_t columns, int64_t width) {
  const LaunchPlan plan = LaunchPlan::make<Input>(pass, rows, columns, width, true);
  return pass == Pass::backward && plan.layout.slices > 1
             ? panel_workspace_bytes<Input>(rows, columns, plan.layout, kPanelTiles<Input>)
             : plan.bytes();
}

template <typename Input>
void contrastive_loss_forward(const ContrastiveForwardParams<Input>& params, void* workspace,
                              const Stream& stream) {
  LaunchPlan plan = make_launch_plan(Pass::forward, params);
  if (params.rows == 0) return;
  plan.assign_workspace(workspace, stream);
  const SplitPlan splits = plan.splits[0];
  const dim3 grid(splits.row_tiles, splits.splits);
  using Many = LogitsTile<Input>;
  using Few = FewRowsTile<Input>;
  auto start = [&](const auto& kernel, size_t shared_bytes, const EmbeddingLayout& layout) {
    launch("contrastive_loss_forward", kernel, grid, kThreads, shared_bytes, stream, params, layout,
           splits);
  };
  if (plan.few_rows) {
    start(contrastive_loss_forward_kernel<Few, Input, true>, Few::template tiles_bytes<Input>,
          plan.layout);
  } else if (plan.layout.slices == 1) {
    start(contrastive_loss_forward_kernel<Many, Input, true>, Many::template tiles_bytes<Input>,
          plan.layout);
  } else if constexpr (sizeof(Input) == 2) {
    start(contrastive_loss_wide_forward_kernel, WideTile::shared_bytes, plan.layout.in_stages());
  } else {
    start(contrastive_loss_forward_kernel<Many, Input, false>, Many::template tiles_bytes<Input>,
          plan.layout);
  }
}

template <typename Input>
void contrastive_loss_backward(const ContrastiveBackwardParams<Input>& params, void* workspace,
                               const Stream& stream) {
  LaunchPlan plan = make_launch_plan(Pass::backward, params);
  if (plan.layout.slices > 1) {
    return contrastive_loss_backward_in_panels(params, plan.layout, kPanelTiles<Input>, workspace,
                                               stream);
  }
  const auto& [anchors, candidates] = plan.splits;
  const dim3 grid(anchors.row_tiles + candidates.row_tiles,
                  std::max(anchors.splits, candidates.splits));
  if (grid.x == 0) return;
  plan.assign_workspace(workspace, stream);
  using Few = FewRowsTile<Input>;
  const auto kernel = plan.few_rows ? contrastive_loss_backward_kernel<Few, Input>
                                    : contrastive_loss_backward_kernel<SumsTile, Input>;
  const size_t shared_bytes =
      plan.few_rows ? kBackwardBytes<Few, Input> : kBackwardBytes<SumsTile, Input>;
  launch("contrastive_loss_backward", kernel, grid, kThreads, shared_bytes, stream, params,
         plan.layout, anchors, candidates);
}

#define USVS_INSTANTIATE(Input)                                                             \
  template size_t contrastive_loss_workspace_bytes<Input>(Pass, int64_t, int64_t, int64_t); \
  template void contrastive_loss_forward(const ContrastiveForwardParams<Input>&, void*,     \
                                         const Stream&);                                    \
  template void contrastive_loss_backward(const ContrastiveBackwardParams<Input>&, void*,   \
                                          const Stream&);
USVS_INSTANTIATE(float)
USVS_INSTANTIATE(BFloat16)
#undef USVS_INSTANTIATE

}  // namespace usvs::cuda
