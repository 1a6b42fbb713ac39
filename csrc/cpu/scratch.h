// Scratch memory that is reused between calls: page faults of fresh memory would cost more than the
// arithmetic.
#pragma once
#include <cstddef>

namespace usvs::cpu {

// A 64-byte aligned buffer that grows on demand.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer();
  void* reserve(size_t bytes);
  // Frees the buffer if it is larger than this.
  void shrink_to(size_t bytes);

 private:
  void* memory_ = nullptr;
  size_t bytes_ = 0;
};

// This thread's buffer for one task.
AlignedBuffer& task_scratch();
// This thread's buffer for a whole call, whose tasks may run on this thread as well.
AlignedBuffer& call_scratch();

// Requests large pages for a large result: page faults of small pages would cost more than filling
// it. Does nothing where that is not possible.
void prefer_large_pages(void* memory, size_t bytes);

}  // namespace usvs::cpu
