// Launches the contrastive loss: how the work is cut, and where its parts lie.
#include <algorithm>

#include "contrastive_loss.h"
#include "kernels/contrastive_loss_backward.cuh"
#include "kernels/contrastive_loss_forward.cuh"

namespace usvs::cuda {
namespace {

// The cuts of a pass: one in the forward pass; the anchors' and the candidates' in the backward.
struct Plan {
  Geometry geometry;
  Cut cuts[2] = {};
  int64_t part_floats;

  template <typename Input>
  static Plan of(Pass pass, int64_t rows, int64_t columns, int64_t width, bool vectors,
                 double temperature = 1) {
    Plan plan{};
    plan.geometry = Geometry::of<Input>(width, vectors, temperature);
    const int slices = plan.geometry.slices;
    if (pass == Pass::forward) {
      plan.cuts[0] = Cut::of(rows, columns, 1, kWantedBlocks, kMostSplitsOfLogits);
      plan.part_floats = 2 * kTileRows;  // largest and sum
    } else {
      plan.cuts[0] = Cut::of(rows, columns, slices, kWantedBlocks / 2, kMostSplitsOfSums);
      plan.cuts[1] = Cut::of(columns, rows, slices, kWantedBlocks / 2, kMostSplitsOfSums);
      plan.part_floats = int64_t{kTileRows} * plan.geometry.slice_width;
    }
    return plan;
  }

  size_t done_bytes() const { return cuts[0].done_bytes() + cuts[1].done_bytes(); }
  size_t bytes() const {
    return done_bytes() + cuts[0].parts_bytes(part_floats) + cuts[1].parts_bytes(part_floats);
  }
  // Gives the cuts their places in the workspace, and clears what is counted there.
  void place(void* workspace, const Stream& stream) {
    char* const memory = static_cast<char*>(workspace);
    if (done_bytes() > 0) clear(memory, done_bytes(), stream);
    cuts[0].done = reinterpret_cast<unsigned*>(memory);
    cuts[1].done = reinterpret_cast<unsigned*>(memory + cuts[0].done_bytes());
    cuts[0].parts = reinterpret_cast<float*>(memory + done_bytes());
    cuts[1].parts =
        reinterpret_cast<float*>(memory + done_bytes() + cuts[0].parts_bytes(part_floats));
  }
};

template <typename Input>
bool rows_are_vectors(const ContrastiveLossParams<Input>& params) {
  const auto addresses =
      reinterpret_cast<uintptr_t>(params.anchors) | reinterpret_cast<uintptr_t>(params.candidates);
  return addresses % 16 == 0 && params.width * sizeof(Input) % 16 == 0;
}

template <typename Input>
Plan plan_of(Pass pass, const ContrastiveLossParams<Input>& params) {
  return Plan::of<Input>(pass, params.rows, params.columns, params.width, rows_are_vectors(params),
                         params.temperature);
}

}  // namespace

template <typename Input>
size_t contrastive_loss_workspace_bytes(Pass pass, int64_t rows, int64_t columns, int64_t width) {
  return Plan::of<Input>(pass, rows, columns, width, true).bytes();
}

template <typename Input>
void contrastive_loss_forward(const ContrastiveLossParams<Input>& params, void* workspace,
                              const Stream& stream) {
  Plan plan = plan_of(Pass::forward, params);
  if (params.rows == 0) return;
  plan.place(workspace, stream);
  const dim3 grid(plan.cuts[0].row_tiles, plan.cuts[0].splits);
  launch("contrastive_loss_forward", contrastive_loss_forward_kernel<Input>, grid, kThreads,
         kTilesBytes<Input>, stream, params, plan.geometry, plan.cuts[0]);
}

template <typename Input>
void contrastive_loss_backward(const ContrastiveLossParams<Input>& params, void* workspace,
                               const Stream& stream) {
  Plan plan = plan_of(Pass::backward, params);
  const auto& [anchors, candidates] = plan.cuts;
  const dim3 grid(anchors.row_tiles + candidates.row_tiles,
                  std::max(anchors.splits, candidates.splits), plan.geometry.slices);
  if (grid.x == 0) return;
  plan.place(workspace, stream);
  launch("contrastive_loss_backward", contrastive_loss_backward_kernel<Input>, grid, kThreads,
         kSharedBytes<Input>, stream, params, plan.geometry, anchors, candidates);
}

#define USVS_INSTANTIATE(Input)                                                             \
  template size_t contrastive_loss_workspace_bytes<Input>(Pass, int64_t, int64_t, int64_t); \
  template void contrastive_loss_forward(const ContrastiveLossParams<Input>&, void*,        \
                                         const Stream&);                                    \
  template void contrastive_loss_backward(const ContrastiveLossParams<Input>&, void*,       \
                                          const Stream&);
USVS_INSTANTIATE(float)
USVS_INSTANTIATE(BFloat16)
#undef USVS_INSTANTIATE

}  // namespace usvs::cuda
