// The launchers of the contrastive loss, over the test's buffers.
#include "cuda/contrastive_loss.cu"

#include "arguments.h"

namespace usvs::cuda {
namespace {

template <typename Input>
ContrastiveLossInputs<Input> inputs_of(const emulator::Arguments& arguments) {
  ContrastiveLossInputs<Input> inputs{};
  // Embeddings may start at any element of a larger buffer.
  inputs.anchors = arguments.buffer<const Input>("anchors") + arguments.integer("first_value");
  inputs.positives = arguments.buffer<const Input>("positives");
  inputs.hard_negatives = arguments.buffer<const Input>("hard_negatives");
  inputs.candidates = arguments.buffer<const Input>("candidates");
  inputs.self_index = arguments.buffer<const int64_t>("self_index");
  inputs.rows = arguments.integer("rows");
  inputs.columns = arguments.integer("columns");
  inputs.width = arguments.integer("width");
  inputs.temperature = arguments.real("temperature");
  inputs.device_temperature = arguments.buffer<const float>("device_temperature");  // may be absent
  inputs.margin_floor = arguments.real("margin_floor");
  inputs.form = static_cast<ContrastiveForm>(arguments.integer("form"));
  return inputs;
}

template <typename Input>
void forward(const emulator::Arguments& arguments) {
  const ContrastiveForwardParams<Input> params{inputs_of<Input>(arguments),
                                               arguments.buffer<float>("losses"),
                                               arguments.buffer<float>("logsumexp")};
  contrastive_loss_forward(params, arguments.buffer<char>("workspace"), Stream{});
}
template <typename Input>
ContrastiveBackwardParams<Input> backward_params(const emulator::Arguments& arguments) {
  return {inputs_of<Input>(arguments),
          arguments.buffer<const float>("logsumexp"),
          arguments.buffer<const float>("losses_grad"),
          arguments.buffer<Input>("anchors_grad"),
          arguments.buffer<Input>("positives_grad"),
          arguments.buffer<Input>("hard_negatives_grad"),
          arguments.buffer<Input>("candidates_grad")};
}
template <typename Input>
void backward(const emulator::Arguments& arguments) {
  contrastive_loss_backward(backward_params<Input>(arguments), arguments.buffer<char>("workspace"),
                            Stream{});
}
// With panels of a given size, and at any width.
template <typename Input>
void backward_in_panels(const emulator::Arguments& arguments) {
  const auto params = backward_params<Input>(arguments);
  const EmbeddingLayout layout = make_launch_plan(Pass::backward, params).layout;
  const int64_t tiles = arguments.integer("panel_tiles");
  if (int64_t* const bytes = arguments.buffer<int64_t>("bytes")) {
    *bytes = panel_workspace_bytes<Input>(params.rows, params.columns, layout, tiles);
    return;
  }
  contrastive_loss_backward_in_panels(params, layout, tiles, arguments.buffer<char>("workspace"),
                                      Stream{});
}
template <typename Input>
void workspace_bytes(const emulator::Arguments& arguments) {
  for (Pass pass : {Pass::forward, Pass::backward}) {
    arguments.buffer<int64_t>("bytes")[static_cast<int>(pass)] =
        contrastive_loss_workspace_bytes<Input>(pass, arguments.integer("rows"),
                                                arguments.integer("columns"),
                                                arguments.integer("width"));
  }
}

// The sum that a lane has after `tiles` tiles, in which all logits but the first are equal.
__global__ void sum_of_equal_logits_kernel(int64_t tiles, float logit, float* sum) {
  RunningLogSum running;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    float logits[LogitsTile<float>::fragments][4];
    for (auto& fragment : logits) fragment[0] = fragment[1] = fragment[2] = fragment[3] = logit;
    if (tile == 0) logits[0][0] = 0;
    accumulate_logits(logits, 0, 1.0f, running);
  }
  sum[0] = running.sum;
}

}  // namespace

EMULATOR_ENTRY(sum_of_equal_logits) {
  launch("sum_of_equal_logits", sum_of_equal_logits_kernel, 1, 1, 0, Stream{},
         arguments.integer("tiles"), static_cast<float>(arguments.real("logit")),
         arguments.buffer<float>("sum"));
}
EMULATOR_ENTRY(forward_float32) { forward<float>(arguments); }
EMULATOR_ENTRY(forward_bfloat16) { forward<BFloat16>(arguments); }
EMULATOR_ENTRY(backward_float32) { backward<float>(arguments); }
EMULATOR_ENTRY(backward_bfloat16) { backward<BFloat16>(arguments); }
EMULATOR_ENTRY(panels_float32) { backward_in_panels<float>(arguments); }
EMULATOR_ENTRY(panels_bfloat16) { backward_in_panels<BFloat16>(arguments); }
EMULATOR_ENTRY(workspace_bytes_float32) { workspace_bytes<float>(arguments); }
EMULATOR_ENTRY(workspace_bytes_bfloat16) { workspace_bytes<BFloat16>(arguments); }

}  // namespace usvs::cuda
