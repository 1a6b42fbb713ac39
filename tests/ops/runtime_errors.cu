// simt.h with a CUDA runtime that fails, and keeps an error until it is read, as CUDA's does.
#include <cstdio>
#include <exception>

#include "kernels/simt.h"

namespace {
cudaError_t last = cudaSuccess;
}

#ifndef __CUDA_ARCH__  // the headers define these functions when they are compiled for a device
extern "C" {
cudaError_t CUDARTAPI cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t CUDARTAPI cudaSetDevice(int) { return cudaSuccess; }
cudaError_t CUDARTAPI cudaMemsetAsync(void*, int, size_t, cudaStream_t) {
  return last = cudaErrorInvalidValue;
}
cudaError_t CUDARTAPI cudaGetLastError() {
  const cudaError_t error = last;
  return last = cudaSuccess, error;
}
const char* CUDARTAPI cudaGetErrorString(cudaError_t) { return "invalid argument"; }
// What nvcc calls when a program starts and ends.
void** CUDARTAPI __cudaRegisterFatBinary(void*) { return nullptr; }
void CUDARTAPI __cudaRegisterFatBinaryEnd(void**) {}
void CUDARTAPI __cudaUnregisterFatBinary(void**) {}
char CUDARTAPI __cudaInitModule(void**) { return 1; }
}
#endif

int main() {
  try {
    usvs::simt::clear(nullptr, 1, usvs::Stream{0, nullptr});
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
  }
  std::printf("last error: %d\n", static_cast<int>(last));
}
