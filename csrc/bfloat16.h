// The other half precision: the upper half of a float32. No torch here.
#pragma once
#include <cstdint>

namespace usvs {

struct BFloat16 {
  uint16_t bits;
};

}  // namespace usvs
