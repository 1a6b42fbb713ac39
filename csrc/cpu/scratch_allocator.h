// Divides scratch memory into arrays. Compiled for each SIMD level, in its namespace.
#pragma once
#include <cstddef>
#include <cstdint>

namespace usvs::cpu::USVS_LEVEL {

// Returns 64-byte aligned arrays of one memory block; with a null block it only counts bytes.
class ScratchAllocator {
 public:
  explicit ScratchAllocator(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <typename Real>
  Real* allocate(int64_t elements) {
    char* piece = memory_ + bytes_;
    bytes_ += (elements * sizeof(Real) + 63) / 64 * 64;
    return reinterpret_cast<Real*>(piece);
  }
  size_t bytes() const { return bytes_; }

 private:
  char* memory_;
  size_t bytes_ = 0;
};

}  // namespace usvs::cpu::USVS_LEVEL
