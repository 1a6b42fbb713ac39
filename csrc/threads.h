// The door through which torch-free code gets torch's threads.
#pragma once
#include <cstdint>

namespace usvs {

struct Threads {
  using Body = void (*)(void* context, int64_t begin, int64_t end);
  // Calls body on slices that together are [0, tasks), perhaps at the same time, and waits for all.
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
