// The two kernels on CUDA: allocates outputs, launches on torch's current stream. Nothing here
// waits for the device.
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <limits>

#include "bindings/contrastive_loss_op.h"
#include "bindings/log_spectrogram_op.h"

// In libtorch_cpu from torch 2.13 on.
extern "C" __attribute__((weak)) AOTITorchError torch_stream_native_handle(StreamHandle stream,
                                                                           void** handle);

namespace usvs {
namespace {

using torch::stable::new_empty;
using torch::stable::accelerator::DeviceGuard;

// Before torch 2.13 only libtorch_cuda provides the handle. A CPU build of torch has no
// libtorch_cuda to link with, so it is looked up when needed.
void* stream_handle_before_2_13(int device) {
  using Query = AOTITorchError (*)(int32_t device, void** handle);
  void* const library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
  const auto query =
      library ? reinterpret_cast<Query>(dlsym(library, "aoti_torch_get_current_cuda_stream"))
              : nullptr;
  void* handle = nullptr;
  if (!query || query(device, &handle)) {
    throw std::runtime_error(
        "usvs: the current CUDA stream is unknown: expected a CUDA build of torch, got one without "
        "libtorch_cuda.so");
  }
  return handle;
}

Stream current_stream(const Tensor& tensor) {
  const int device = tensor.get_device_index();
  if (!torch_stream_native_handle) return {device, stream_handle_before_2_13(device)};
  StreamHandle stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_stream(device, &stream));
  const torch::stable::accelerator::Stream owner(stream);
  void* handle = nullptr;
  TORCH_ERROR_CODE_CHECK(torch_stream_native_handle(stream, &handle));
  return {device, handle};
}

void check_cuda(const char* op, const char* name, const Tensor& tensor) {
  if (!tensor.is_cuda())
    throw_argument_error(op, name, "a CUDA tensor", "one on " + device_text(tensor));
}

struct Cuda {
  template <typename Function>
  static void with_waveform(const Tensor& tensor, const Function& function) {
    check_cuda("log_spectrogram", "waveform", tensor);
    if (tensor.scalar_type() == ScalarType::Float) return function(float{});
    throw_argument_error("log_spectrogram", "waveform", "float32 on CUDA",
                         torch::headeronly::toString(tensor.scalar_type()));
  }
  static void forward(const LogSpectrogramForwardParams<float>& params, const Tensor& like) {
    const DeviceGuard guard(like.get_device_index());
    cuda::log_spectrogram_forward(params, current_stream(like));
  }
  static void backward(const LogSpectrogramBackwardParams<float>& params, const Tensor& like) {
    const DeviceGuard guard(like.get_device_index());
    cuda::log_spectrogram_backward(params, current_stream(like));
  }
  template <typename Function>
  static void with_embedding(const Tensor& tensor, const Function& function) {
    check_cuda("contrastive_loss", "anchors", tensor);
    if (tensor.scalar_type() == ScalarType::BFloat16) return function(BFloat16{});
    if (tensor.scalar_type() == ScalarType::Float) return function(float{});
    throw_argument_error("contrastive_loss", "anchors", "float32 or bfloat16 on CUDA",
                         torch::headeronly::toString(tensor.scalar_type()));
  }
  template <typename Input>
  static void forward(const ContrastiveForwardParams<Input>& params, const Tensor& like) {
    run<Input>(cuda::Pass::forward, cuda::contrastive_loss_forward<Input>, params, like);
  }
  template <typename Input>
  static void backward(const ContrastiveBackwardParams<Input>& params, const Tensor& like) {
    run<Input>(cuda::Pass::backward, cuda::contrastive_loss_backward<Input>, params, like);
  }

 private:
  template <typename Input, typename Launch, typename Params>
  static void run(cuda::Pass pass, Launch launch, const Params& params, const Tensor& like) {
    constexpr int64_t max_value = std::numeric_limits<int32_t>::max();
    check_range("contrastive_loss", "rows of anchors", params.rows, 0, max_value);
    check_range("contrastive_loss", "rows of candidates", params.columns, 0, max_value);
    const DeviceGuard guard(like.get_device_index());
    const size_t bytes = cuda::contrastive_loss_workspace_bytes<Input>(
        pass, params.rows, params.columns, params.width);
    // May be freed when this returns: the caching allocator reuses it only for later work on this
    // stream.
    const Tensor workspace = new_empty(like, {static_cast<int64_t>(bytes)}, ScalarType::Byte);
    launch(params, workspace.mutable_data_ptr(), current_stream(like));
  }
};

}  // namespace
}  // namespace usvs

STABLE_TORCH_LIBRARY_IMPL(usvs, CUDA, library) {
  library.impl("log_spectrogram", TORCH_BOX(&usvs::log_spectrogram<usvs::Cuda>));
  library.impl("log_spectrogram.out", TORCH_BOX(&usvs::log_spectrogram_out<usvs::Cuda>));
  library.impl("log_spectrogram_backward", TORCH_BOX(&usvs::log_spectrogram_backward<usvs::Cuda>));
  library.impl("contrastive_loss_forward", TORCH_BOX(&usvs::contrastive_loss_forward<usvs::Cuda>));
  library.impl("contrastive_loss_backward",
               TORCH_BOX(&usvs::contrastive_loss_backward<usvs::Cuda>));
}
