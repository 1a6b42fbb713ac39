// The SIMD level that the kernels run at. "portable" is available on every machine.
#pragma once
#include <string>
#include <vector>

namespace usvs::cpu {

// avx512_bf16 adds the dot-product instructions for bfloat16.
enum class SimdLevel { portable, avx2, avx512, avx512_bf16 };

// The levels of this binary that this machine can run, the widest last.
const std::vector<SimdLevel>& usable_simd_levels();
// The levels of this binary, the widest last.
const std::vector<SimdLevel>& compiled_simd_levels();
// The widest usable level, unless use_simd_level chose another.
SimdLevel simd_level_in_use();
// For tests and measurements; throws std::invalid_argument for a level this machine cannot run.
void use_simd_level(SimdLevel level);

std::string to_string(SimdLevel level);
SimdLevel simd_level_from_string(const std::string& name);

}  // namespace usvs::cpu
