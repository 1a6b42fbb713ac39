// Memory kept between calls: fresh pages cost more than the arithmetic.
#pragma once
#include <cstddef>

namespace usvs::cpu {

// Memory that any vector may be loaded from; grows, and shrinks only when told to.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer();
  void* reserve(size_t bytes);
  // Gives all of it back if there is more.
  void shrink_to(size_t bytes);

 private:
  void* memory_ = nullptr;
  size_t bytes_ = 0;
};

// This thread's buffer for what one task needs.
AlignedBuffer& task_scratch();
// This thread's buffer for what a whole call needs, whose tasks may run on this thread too.
AlignedBuffer& call_scratch();

// Asks for large pages behind a large result: tangent_point fresh small ones costs more than
// filling them. Where that cannot be had, nothing changes.
void prefer_large_pages(void* memory, size_t bytes);

}  // namespace usvs::cpu
