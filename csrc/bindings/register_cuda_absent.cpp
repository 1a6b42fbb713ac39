// Replaces register_cuda.cpp and the launchers in a build without CUDA: every CUDA op raises an
// error.
#include <torch/csrc/stable/library.h>

#include <stdexcept>

#include "contrastive_loss.h"

namespace usvs {
namespace {

[[noreturn]] void refuse_cuda() {
  throw std::runtime_error(
      "usvs: this build has no CUDA kernels; build them where nvcc is installed: "
      "USVS_CUDA=ON pip install --no-build-isolation -e .");
}

void no_kernel(StableIValue*, uint64_t, uint64_t) { refuse_cuda(); }

}  // namespace

template <typename Input>
size_t cuda::contrastive_loss_workspace_bytes(Pass, int64_t, int64_t, int64_t) {
  refuse_cuda();
}
template size_t cuda::contrastive_loss_workspace_bytes<float>(Pass, int64_t, int64_t, int64_t);
template size_t cuda::contrastive_loss_workspace_bytes<BFloat16>(Pass, int64_t, int64_t, int64_t);

}  // namespace usvs

STABLE_TORCH_LIBRARY_IMPL(usvs, CUDA, library) {
  for (const char* op : {"log_spectrogram", "log_spectrogram.out", "log_spectrogram_backward",
                         "contrastive_loss_forward", "contrastive_loss_backward"}) {
    library.impl(op, &usvs::no_kernel);
  }
}
