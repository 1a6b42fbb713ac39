// Prints how the gradients of the loss are divided: plans ROWS COLUMNS WIDTH.
#include <cstdio>
#include <cstdlib>

#include "kernels/contrastive_loss_plan.h"

using namespace usvs;
using namespace usvs::cuda;

// Panels have tiles of weights, each as many columns as several tiles of the sums.
template <typename Input, typename WeightsTile>
void print(const char* dtype, int64_t rows, int64_t columns, int64_t width) {
  const auto layout = EmbeddingLayout::make<Input>(width, true);
  if (layout.slices > 1) {
    constexpr int panel_tiles = kPanelColumnTiles / (WeightsTile::columns / SumsTile::columns);
    const auto anchors = PanelPlan::make<WeightsTile>(rows, columns, panel_tiles);
    std::printf("%s carried %d\n", dtype, !anchors.has_all_columns());
  } else if (rows <= kFewRows) {
    const auto plan = SplitPlan::make<FewRowsTile<Input>>(rows, columns, 1, kTargetBlocks / 2,
                                                          kMaxSplitsOfGradients);
    std::printf("%s joins %d\n", dtype, plan.joins);
  }
}

int main(int, char** arguments) {
  const int64_t rows = std::atoll(arguments[1]), columns = std::atoll(arguments[2]);
  const int64_t width = std::atoll(arguments[3]);
  print<float, LogitsTile<float>>("float32", rows, columns, width);
  print<BFloat16, WideTile>("bfloat16", rows, columns, width);
}
