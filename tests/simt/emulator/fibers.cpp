#include "fibers.h"

#include <sys/mman.h>

#include <cstdlib>

#ifndef __x86_64__
#include <ucontext.h>

#include <map>
#endif

#if EMULATOR_ASAN
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack_save, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom_old, size_t* size_old);
void __asan_unpoison_memory_region(const volatile void* address, size_t size);
}
#endif
#if EMULATOR_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace emulator {
namespace {

constexpr unsigned kNoSync = 1;  // a switch alone orders nothing, or every race would be hidden
Fiber host;
[[maybe_unused]] const void* host_bottom = nullptr;
[[maybe_unused]] size_t host_size = 0;

}  // namespace

#ifdef __x86_64__
// Saves what a call must keep on the old stack, and goes on where the new one left off.
extern "C" void emulator_switch_stack(void** save, void* to);
asm(R"(
.text
.globl emulator_switch_stack
.hidden emulator_switch_stack
.type emulator_switch_stack,@function
emulator_switch_stack:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size emulator_switch_stack,.-emulator_switch_stack
)");

static void make_context(Fiber& fiber, void (*entry)(), unsigned colour) {
  // Stacks that begin at different cache sets, or a thousand of them would share a few.
  uintptr_t top =
      reinterpret_cast<uintptr_t>(fiber.stack) + kStackBytes - 64 - colour * 7 % 61 * 64;
  void** words = reinterpret_cast<void**>(top & ~uintptr_t{15});
  *--words = nullptr;
  *--words = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--words = nullptr;
  fiber.stack_pointer = words;
}

static void swap_context(Fiber& from, Fiber& to) {
  emulator_switch_stack(&from.stack_pointer, to.stack_pointer);
}
#else
static std::map<Fiber*, ucontext_t> contexts;  // portable, and ten times slower

static void make_context(Fiber& fiber, void (*entry)(), unsigned) {
  ucontext_t& context = contexts[&fiber];
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack;
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}

static void swap_context(Fiber& from, Fiber& to) { swapcontext(&contexts[&from], &contexts[&to]); }
#endif

Fiber& host_fiber() { return host; }

void begin_on_host() {
#if EMULATOR_TSAN
  host.tsan = __tsan_get_current_fiber();
#endif
}

char* new_stack() {
  void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) abort();
  return static_cast<char*>(memory);
}

void prepare(Fiber& fiber, void (*entry)(), unsigned colour) {
  make_context(fiber, entry, colour);
  fiber.fake_stack = nullptr;
#if EMULATOR_ASAN
  __asan_unpoison_memory_region(fiber.stack, kStackBytes);
#endif
#if EMULATOR_TSAN
  fiber.tsan = __tsan_create_fiber(0);
#endif
}

void renew_stack([[maybe_unused]] char* stack) {
#if EMULATOR_TSAN
  void* const top = stack + kStackBytes - kRenewedBytes;
  if (mmap(top, kRenewedBytes, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != top) {
    abort();
  }
#endif
}

void discard([[maybe_unused]] Fiber& fiber) {
#if EMULATOR_TSAN
  __tsan_destroy_fiber(fiber.tsan);
#endif
}

void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool leaves_for_good) {
#if EMULATOR_TSAN
  __tsan_switch_to_fiber(to.tsan, kNoSync);
#endif
#if EMULATOR_ASAN
  void** save = leaves_for_good ? nullptr : &from.fake_stack;
  if (&to == &host) {
    __sanitizer_start_switch_fiber(save, host_bottom, host_size);
  } else {
    __sanitizer_start_switch_fiber(save, to.stack, kStackBytes);
  }
#endif
  swap_context(from, to);
  arrive(from);
}

void arrive([[maybe_unused]] Fiber& fiber) {
#if EMULATOR_ASAN
  const bool learn = &fiber != &host && host_bottom == nullptr;
  __sanitizer_finish_switch_fiber(fiber.fake_stack, learn ? &host_bottom : nullptr,
                                  learn ? &host_size : nullptr);
#endif
}

#if EMULATOR_TSAN
void release(void* object) { __tsan_release(object); }
void acquire(void* object) { __tsan_acquire(object); }
void release_as(Fiber& as, Fiber& self, void* object) {
  __tsan_switch_to_fiber(as.tsan, kNoSync);
  __tsan_release(object);
  __tsan_switch_to_fiber(self.tsan, kNoSync);
}
void acquire_as(Fiber& as, Fiber& self, void* object) {
  __tsan_switch_to_fiber(as.tsan, kNoSync);
  __tsan_acquire(object);
  __tsan_switch_to_fiber(self.tsan, kNoSync);
}
void watch_accesses(bool on) {
  (on ? AnnotateIgnoreReadsEnd : AnnotateIgnoreReadsBegin)(__FILE__, __LINE__);
  (on ? AnnotateIgnoreWritesEnd : AnnotateIgnoreWritesBegin)(__FILE__, __LINE__);
}
AsHost::AsHost() : self_(__tsan_get_current_fiber()) { __tsan_switch_to_fiber(host.tsan, kNoSync); }
AsHost::~AsHost() { __tsan_switch_to_fiber(self_, kNoSync); }
#else
void release(void*) {}
void acquire(void*) {}
void release_as(Fiber&, Fiber&, void*) {}
void acquire_as(Fiber&, Fiber&, void*) {}
void watch_accesses(bool) {}
AsHost::AsHost() : self_(nullptr) {}
AsHost::~AsHost() { (void)self_; }
#endif

}  // namespace emulator
