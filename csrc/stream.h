// The door through which torch-free code gets torch's current CUDA stream.
#pragma once

namespace usvs {

struct Stream {
  int device;
  void* handle;  // a cudaStream_t
};

}  // namespace usvs
