// What one core of this machine can do at most. Prints JSON; every figure is the best of many short
// runs, which other work on the machine disturbs least. Built by machine_limits.py with
// -march=native.
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__AVX512F__)
#define REGISTER "zmm"
constexpr int kLanes = 16;
#else
#define REGISTER "ymm"
constexpr int kLanes = 8;
#endif

template <typename Function>
double best_seconds(const Function& function) {
  double best = 1e9;
  for (int run = 0; run < 500; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    function();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
    best = std::min(best, passed.count());
  }
  return best;
}

#define FMA(i) \
  asm volatile("vfmadd213ps %%" REGISTER "14, %%" REGISTER "15, %%" REGISTER #i::: "xmm" #i);
#define ADD(i) \
  asm volatile("vaddps %%" REGISTER "14, %%" REGISTER #i ", %%" REGISTER #i::: "xmm" #i);
#define MUL(i) \
  asm volatile("vmulps %%" REGISTER "15, %%" REGISTER #i ", %%" REGISTER #i::: "xmm" #i);
#define DOT(i) asm volatile("vdpbf16ps %%zmm14, %%zmm15, %%zmm" #i::: "xmm" #i);
#define TWELVE(A, B) A(0) B(1) A(2) B(3) A(4) B(5) A(6) B(7) A(8) B(9) A(10) B(11)

int main() {
  constexpr long kRepeats = 50000;
  asm volatile("vxorps %%ymm14, %%ymm14, %%ymm14\n vxorps %%ymm15, %%ymm15, %%ymm15" ::
                   : "xmm14", "xmm15");
  const double fma = best_seconds([] {
    for (long i = 0; i < kRepeats; ++i) {
      TWELVE(FMA, FMA)
    }
  });
  const double mixed = best_seconds([] {
    for (long i = 0; i < kRepeats; ++i) {
      TWELVE(ADD, MUL)
    }
  });
  std::printf("{\"fma_flops\": %.4g, \"lane_operations\": %.4g", kRepeats * 12.0 * kLanes * 2 / fma,
              kRepeats * 12.0 * kLanes / mixed);
#if defined(__AVX512BF16__)
  const double dot = best_seconds([] {
    for (long i = 0; i < kRepeats; ++i) {
      TWELVE(DOT, DOT)
    }
  });
  std::printf(", \"bfloat16_flops\": %.4g", kRepeats * 12.0 * kLanes * 4 / dot);
#endif
  constexpr size_t kBytes = size_t{64} << 20;
  char* memory = static_cast<char*>(std::aligned_alloc(4096, kBytes));
  std::memset(memory, 1, kBytes);
  const __m256i value = _mm256_set1_epi32(7);
  constexpr size_t kPart = kBytes / 8;  // every run writes another part, past the caches
  size_t run = 0;
  const double write = best_seconds([&] {
    char* part = memory + run++ % 8 * kPart;
    for (size_t i = 0; i < kPart; i += 32)
      _mm256_stream_si256(reinterpret_cast<__m256i*>(part + i), value);
    _mm_sfence();
  });
  std::printf(", \"write_bytes\": %.4g}\n", kPart / write);
  std::free(memory);
}
