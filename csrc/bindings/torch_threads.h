// torch's thread pool, as the kernels of cpu/ take it.
#pragma once
#include <torch/csrc/stable/ops.h>

#include "threads.h"

namespace usvs {

inline constexpr Threads torch_threads{[](int64_t tasks, void* context, Threads::Body body) {
  torch::stable::parallel_for(0, tasks, 1,
                              [&](int64_t begin, int64_t end) { body(context, begin, end); });
}};

}  // namespace usvs
