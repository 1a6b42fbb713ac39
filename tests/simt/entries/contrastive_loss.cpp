// The launchers of the contrastive loss, over the test's buffers.
#include "cuda/contrastive_loss.cu"

#include "arguments.h"

namespace usvs::cuda {
namespace {

template <typename Input>
ContrastiveLossParams<Input> params_of(const emulator::Arguments& arguments) {
  ContrastiveLossParams<Input> params{};
  // Embeddings may begin anywhere in a larger buffer.
  params.anchors = arguments.buffer<const Input>("anchors") + arguments.integer("first_value");
  params.positives = arguments.buffer<const Input>("positives");
  params.hard_negatives = arguments.buffer<const Input>("hard_negatives");
  params.candidates = arguments.buffer<const Input>("candidates");
  params.self_index = arguments.buffer<const int64_t>("self_index");
  params.losses = arguments.buffer<float>("losses");
  params.logsumexp = arguments.buffer<float>("logsumexp");
  params.losses_grad = arguments.buffer<const float>("losses_grad");
  params.anchors_grad = arguments.buffer<Input>("anchors_grad");
  params.positives_grad = arguments.buffer<Input>("positives_grad");
  params.hard_negatives_grad = arguments.buffer<Input>("hard_negatives_grad");
  params.candidates_grad = arguments.buffer<Input>("candidates_grad");
  params.rows = arguments.integer("rows");
  params.columns = arguments.integer("columns");
  params.width = arguments.integer("width");
  params.temperature = arguments.real("temperature");
  params.margin_floor = arguments.real("margin_floor");
  params.form = static_cast<ContrastiveForm>(arguments.integer("form"));
  return params;
}

template <typename Input>
void forward(const emulator::Arguments& arguments) {
  contrastive_loss_forward(params_of<Input>(arguments), arguments.buffer<char>("workspace"),
                           Stream{});
}
template <typename Input>
void backward(const emulator::Arguments& arguments) {
  contrastive_loss_backward(params_of<Input>(arguments), arguments.buffer<char>("workspace"),
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

}  // namespace

EMULATOR_ENTRY(forward_float32) { forward<float>(arguments); }
EMULATOR_ENTRY(forward_bfloat16) { forward<BFloat16>(arguments); }
EMULATOR_ENTRY(backward_float32) { backward<float>(arguments); }
EMULATOR_ENTRY(backward_bfloat16) { backward<BFloat16>(arguments); }
EMULATOR_ENTRY(workspace_bytes_float32) { workspace_bytes<float>(arguments); }
EMULATOR_ENTRY(workspace_bytes_bfloat16) { workspace_bytes<BFloat16>(arguments); }

}  // namespace usvs::cuda
