#include "cpu/scratch.h"

#include <cstdint>
#include <cstdlib>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace usvs::cpu {

void prefer_large_pages(void* memory, size_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t page = 2 << 20;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + bytes) / page * page;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

AlignedBuffer::~AlignedBuffer() { std::free(memory_); }

void* AlignedBuffer::reserve(size_t bytes) {
  if (bytes > bytes_) {
    shrink_to(0);
    memory_ = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory_ == nullptr) throw std::bad_alloc();
    prefer_large_pages(memory_, bytes);
    bytes_ = bytes;
  }
  return memory_;
}

void AlignedBuffer::shrink_to(size_t bytes) {
  if (bytes_ <= bytes) return;
  std::free(memory_);
  memory_ = nullptr;
  bytes_ = 0;
}

AlignedBuffer& task_scratch() {
  static thread_local AlignedBuffer buffer;
  return buffer;
}

AlignedBuffer& call_scratch() {
  static thread_local AlignedBuffer buffer;
  return buffer;
}

}  // namespace usvs::cpu
