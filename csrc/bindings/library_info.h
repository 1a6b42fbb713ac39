// What libusvs_ops.so exports beside the registered ops: build information and the SIMD switch, for
// the Python module usvs._C of the same build. Includes neither torch nor Python.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#define USVS_EXPORT __attribute__((visibility("default")))

namespace usvs::library {

// SIMD levels in this binary, those this CPU can run, and the one in use; the widest last.
USVS_EXPORT std::vector<std::string> compiled_simd_levels();
USVS_EXPORT std::vector<std::string> usable_simd_levels();
USVS_EXPORT std::string simd_level_in_use();
// Whether the loss multiplies bfloat16 without conversion to float32.
USVS_EXPORT bool uses_bfloat16_products();
// Throws std::invalid_argument for an unknown level or one this CPU cannot run.
USVS_EXPORT void use_simd_level(const std::string& level);

// Compute capabilities of the compiled CUDA kernels ("90-real"); empty without CUDA kernels.
USVS_EXPORT std::vector<std::string> cuda_architectures();
// Name and version of the C++ compiler.
USVS_EXPORT std::string compiler();

// Bytes of CUDA workspace that a pass of contrastive_loss allocates. dtype: float32 or bfloat16.
struct WorkspaceBytes {
  size_t forward, backward;
};
USVS_EXPORT WorkspaceBytes contrastive_loss_workspace_bytes(int64_t rows, int64_t columns,
                                                            int64_t width,
                                                            const std::string& dtype);

}  // namespace usvs::library
