// bfloat16: the upper half of a float32. Includes no torch.
#pragma once
#include <cstdint>

namespace usvs {

struct BFloat16 {
  uint16_t bits;
};

}  // namespace usvs
