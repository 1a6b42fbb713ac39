#include "cpu/scratch.h"

#include <cstdlib>
#include <new>

namespace usvs::cpu {

AlignedBuffer::~AlignedBuffer() { std::free(memory_); }

void* AlignedBuffer::at_least(size_t bytes) {
  if (bytes > bytes_) {
    std::free(memory_);
    bytes_ = 0;
    memory_ = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory_ == nullptr) throw std::bad_alloc();
    bytes_ = bytes;
  }
  return memory_;
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
