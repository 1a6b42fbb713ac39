// A CUDA stream, so that the kernels' interface names neither torch nor CUDA.
#pragma once

namespace usvs {

struct Stream {
  int device;
  void* handle;  // a cudaStream_t
};

}  // namespace usvs
