// CUDA's names for a kernel that runs in the emulator. csrc/kernels/simt.h includes this where nvcc
// does not compile. `__shared__` is missing on purpose: USVS_SHARED gives memory that is poisoned
// and watched.
#pragma once
#include <cmath>
#include <cstring>
#include <utility>

#include "runtime.h"
#include "stream.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define threadIdx (::emulator::current->thread)
#define blockIdx (::emulator::current->block)
#define blockDim (::emulator::current->block_size)
#define gridDim (::emulator::current->grid_size)

#define USVS_SHARED(type, name, count) \
  static const char name##_key_ = 0;   \
  type(&name)[count] =                 \
      *static_cast<type(*)[count]>(::emulator::shared_array(&name##_key_, sizeof(type) * (count)))
#define USVS_DYNAMIC_SHARED(type, name, offset, count) \
  type* const name =                                   \
      static_cast<type*>(::emulator::dynamic_shared_array(offset, sizeof(type) * (count)))

#include "emulated_math.h"
#include "emulated_tensor_cores.h"
#include "emulated_warp.h"

namespace usvs::simt {

// Every thread gets its own copies of the kernel's parameters, as on a GPU.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            size_t shared_bytes, const Stream&, const Arguments&... arguments) {
  auto body = [&] { kernel(static_cast<Parameters>(arguments)...); };
  ::emulator::run_grid(
      name, grid, block, shared_bytes,
      [](void* context) { (*static_cast<decltype(body)*>(context))(); }, &body);
}

inline void clear(void* memory, size_t bytes, const Stream&) {
  for (size_t i = 0; i < bytes; ++i) static_cast<volatile unsigned char*>(memory)[i] = 0;
}

}  // namespace usvs::simt
