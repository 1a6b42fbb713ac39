// The SIMD level that the kernels run at. "portable" is available on every machine.
#pragma once
#include <string>
#include <type_traits>
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
// Whether products of bfloat16 are dot products of avx512_bf16. Intel's processors take longer for
// these than for the conversions and multiply-adds that they replace: they are used there only
// where use_simd_level chose the level.
bool uses_bfloat16_products();

// Returns the entry of the level in use, else that of the next narrower level of this binary.
template <typename Entry>
const Entry& choose_level(const Entry& portable, const std::type_identity_t<Entry>* avx2,
                          const std::type_identity_t<Entry>* avx512,
                          const std::type_identity_t<Entry>* avx512_bf16 = nullptr) {
  switch (simd_level_in_use()) {
    case SimdLevel::avx512_bf16:
      if (avx512_bf16) return *avx512_bf16;
      [[fallthrough]];
    case SimdLevel::avx512:
      if (avx512) return *avx512;
      [[fallthrough]];
    case SimdLevel::avx2:
      if (avx2) return *avx2;
      [[fallthrough]];
    default:
      return portable;
  }
}

// The first arguments of choose_level: an object of each level's namespace, null where this binary
// does not have the level.
#define USVS_LEVELS(name) portable::name, USVS_AVX2_ENTRY(name), USVS_AVX512_ENTRY(name)
#ifdef USVS_WITH_AVX2
#define USVS_AVX2_ENTRY(name) &avx2::name
#else
#define USVS_AVX2_ENTRY(name) nullptr
#endif
#ifdef USVS_WITH_AVX512
#define USVS_AVX512_ENTRY(name) &avx512::name
#else
#define USVS_AVX512_ENTRY(name) nullptr
#endif
#ifdef USVS_WITH_AVX512_BF16
#define USVS_AVX512_BF16_ENTRY(name) &avx512_bf16::name
#else
#define USVS_AVX512_BF16_ENTRY(name) nullptr
#endif

std::string to_string(SimdLevel level);
SimdLevel simd_level_from_string(const std::string& name);

}  // namespace usvs::cpu
