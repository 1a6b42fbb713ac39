#include "bindings/library_info.h"

#include <sstream>
#include <stdexcept>

#include "contrastive_loss.h"
#include "cpu/simd_level.h"

namespace usvs::library {
namespace {

std::vector<std::string> names(const std::vector<cpu::SimdLevel>& levels) {
  std::vector<std::string> result;
  for (cpu::SimdLevel level : levels) result.push_back(cpu::to_string(level));
  return result;
}

template <typename Input>
WorkspaceBytes workspace_bytes(int64_t rows, int64_t columns, int64_t width) {
  using cuda::Pass;
  return {cuda::contrastive_loss_workspace_bytes<Input>(Pass::forward, rows, columns, width),
          cuda::contrastive_loss_workspace_bytes<Input>(Pass::backward, rows, columns, width)};
}

}  // namespace

std::vector<std::string> compiled_simd_levels() { return names(cpu::compiled_simd_levels()); }

std::vector<std::string> usable_simd_levels() { return names(cpu::usable_simd_levels()); }

std::string simd_level_in_use() { return cpu::to_string(cpu::simd_level_in_use()); }

bool uses_bfloat16_products() { return cpu::uses_bfloat16_products(); }

void use_simd_level(const std::string& level) {
  cpu::use_simd_level(cpu::simd_level_from_string(level));
}

std::vector<std::string> cuda_architectures() {
  std::vector<std::string> result;
  std::istringstream list(USVS_CUDA_ARCHITECTURES);
  for (std::string name; std::getline(list, name, ',');) result.push_back(name);
  return result;
}

std::string compiler() { return USVS_COMPILER; }

WorkspaceBytes contrastive_loss_workspace_bytes(int64_t rows, int64_t columns, int64_t width,
                                                const std::string& dtype) {
  if (dtype == "float32") return workspace_bytes<float>(rows, columns, width);
  if (dtype == "bfloat16") return workspace_bytes<BFloat16>(rows, columns, width);
  throw std::invalid_argument("dtype: expected float32 or bfloat16, got '" + dtype + "'");
}

}  // namespace usvs::library
