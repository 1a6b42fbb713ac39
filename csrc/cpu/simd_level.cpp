#include "cpu/simd_level.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>

namespace usvs::cpu {
namespace {

#if defined(USVS_EMULATE_AVX512)
bool has_avx512() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_bfloat16() { return true; }
#elif defined(__x86_64__)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
bool has_bfloat16() { return __builtin_cpu_supports("avx512bf16"); }
#endif

bool runs_here(SimdLevel level) {
#if defined(__x86_64__)
  switch (level) {
    case SimdLevel::portable:
      return true;
    case SimdLevel::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case SimdLevel::avx512:
      return has_avx512();
    case SimdLevel::avx512_bf16:
      return has_avx512() && has_bfloat16();
  }
#endif
  return level == SimdLevel::portable;
}

std::atomic<SimdLevel>& level_in_use() {
  static std::atomic<SimdLevel> level = usable_simd_levels().back();
  return level;
}

std::atomic<bool> level_was_chosen = false;

bool has_fast_bfloat16_products() {
#if defined(__x86_64__)
  return !__builtin_cpu_is("intel");
#else
  return true;
#endif
}

}  // namespace

const std::vector<SimdLevel>& compiled_simd_levels() {
  static const std::vector<SimdLevel> levels = {
      SimdLevel::portable,
#ifdef USVS_WITH_AVX2
      SimdLevel::avx2,
#endif
#ifdef USVS_WITH_AVX512
      SimdLevel::avx512,
#endif
#ifdef USVS_WITH_AVX512_BF16
      SimdLevel::avx512_bf16,
#endif
  };
  return levels;
}

const std::vector<SimdLevel>& usable_simd_levels() {
  static const std::vector<SimdLevel> levels = [] {
    std::vector<SimdLevel> usable;
    std::copy_if(compiled_simd_levels().begin(), compiled_simd_levels().end(),
                 std::back_inserter(usable), runs_here);
    return usable;
  }();
  return levels;
}

SimdLevel simd_level_in_use() { return level_in_use(); }

void use_simd_level(SimdLevel level) {
  const auto& usable = usable_simd_levels();
  if (std::find(usable.begin(), usable.end(), level) == usable.end()) {
    throw std::invalid_argument("usvs: SIMD level '" + to_string(level) +
                                "' is not compiled in or this machine cannot run it");
  }
  level_in_use() = level;
  level_was_chosen = true;
}

bool uses_bfloat16_products() {
  return simd_level_in_use() == SimdLevel::avx512_bf16 &&
         (level_was_chosen || has_fast_bfloat16_products());
}

std::string to_string(SimdLevel level) {
  switch (level) {
    case SimdLevel::avx2:
      return "avx2";
    case SimdLevel::avx512:
      return "avx512";
    case SimdLevel::avx512_bf16:
      return "avx512_bf16";
    default:
      return "portable";
  }
}

SimdLevel simd_level_from_string(const std::string& name) {
  for (SimdLevel level :
       {SimdLevel::portable, SimdLevel::avx2, SimdLevel::avx512, SimdLevel::avx512_bf16}) {
    if (to_string(level) == name) return level;
  }
  throw std::invalid_argument(
      "usvs: SIMD level: expected portable, avx2, avx512 or avx512_bf16, got '" + name + "'");
}

}  // namespace usvs::cpu
