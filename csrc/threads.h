// A thread pool as the CPU kernels use it, so that their interface does not name torch.
#pragma once
#include <cstdint>

namespace usvs {

struct Threads {
  using Body = void (*)(void* context, int64_t begin, int64_t end);
  // Calls body on slices that together are [0, tasks), possibly in parallel, and waits for all of
  // them.
  void (*run)(int64_t tasks, void* context, Body body);

  template <typename Function>
  void for_each(int64_t tasks, const Function& function) const {
    run(tasks, const_cast<void*>(static_cast<const void*>(&function)),
        [](void* context, int64_t begin, int64_t end) {
          for (int64_t task = begin; task < end; ++task) {
            (*static_cast<const Function*>(context))(task);
          }
        });
  }
};

}  // namespace usvs
