// Stacks and the switch between them, reported to the sanitizer in use.
#pragma once
#include <cstddef>
#include <cstdint>

#ifndef EMULATOR_ASAN
#define EMULATOR_ASAN 0
#endif
#ifndef EMULATOR_TSAN
#define EMULATOR_TSAN 0
#endif

namespace emulator {

constexpr size_t kStackBytes = 256 * 1024;
constexpr size_t kRenewedBytes = 64 * 1024;  // of a stack, more than a kernel uses

struct Fiber {
  char* stack = nullptr;
  void* stack_pointer = nullptr;
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* tsan = nullptr;        // ThreadSanitizer's name for it
};

// The launcher's own stack is a fiber too.
Fiber& host_fiber();
void begin_on_host();  // before the first switch of a grid
void prepare(Fiber& fiber, void (*entry)(), unsigned colour);
void discard(Fiber& fiber);
// `leaves_for_good`: nothing will come back to `from`.
void switch_fiber(Fiber& from, Fiber& to, bool leaves_for_good);
void arrive(Fiber& fiber);  // the first thing that runs on a fiber after a switch to it
char* new_stack();
// Memory that ThreadSanitizer has never seen used: were a stack's next thread ordered after its
// last one, one barrier would order whole blocks, and hide every race between them.
void renew_stack(char* stack);

// Happens-before edges, for ThreadSanitizer only; elsewhere they cost nothing.
void release(void* object);
void acquire(void* object);
void release_as(Fiber& as, Fiber& self, void* object);
void acquire_as(Fiber& as, Fiber& self, void* object);
void watch_accesses(bool on);

// What is allocated while this lives looks to ThreadSanitizer like the launcher's, not like the
// kernel's: the runtime's own memory must never look like a race.
class AsHost {
 public:
  AsHost();
  ~AsHost();

 private:
  void* self_;
};

}  // namespace emulator
