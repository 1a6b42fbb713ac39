// Fragments as the PTX ISA lays them out (g = lane / 4, t = lane % 4), ldmatrix, cp.async.
//
// A sum is exact inside, and rounded once, towards zero: what Fasi et al. (2021,
// doi:10.7717/peerj-cs.330) found of real tensor cores, but for the bits that those drop when they
// align the terms.
#pragma once
#include "emulated_math.h"
#include "runtime.h"

namespace emulator {

// GCC's ThreadSanitizer does not see a memcpy that it expands in place: so word by word.
typedef uint32_t __attribute__((may_alias)) AliasedWord;
inline void copy_words(void* to, const void* from, int bytes) {
  for (int i = 0; i < bytes / 4; ++i) {
    static_cast<volatile AliasedWord*>(to)[i] = static_cast<const volatile AliasedWord*>(from)[i];
  }
}
inline void fill_words(void* to, uint32_t word, int bytes) {
  for (int i = 0; i < bytes / 4; ++i) static_cast<volatile AliasedWord*>(to)[i] = word;
}

struct Fragments {
  const uint32_t *a, *b;
  const float* c;
};

inline float towards_zero(double sum) {
  const float nearest = static_cast<float>(sum);
  const bool away = std::fabs(static_cast<double>(nearest)) > std::fabs(sum);
  return away ? std::nextafter(nearest, 0.0f) : nearest;
}

template <int depth, typename Load>
void multiply(WarpOperation* const* lanes, const Load& load) {
  float a[16][depth], b[depth][8], c[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane >> 2, t = lane & 3;
    const auto& in = *static_cast<const Fragments*>(lanes[lane]->input);
    load(in, a, b, g, t);
    for (int i = 0; i < 4; ++i) c[g + 8 * (i / 2)][2 * t + i % 2] = in.c[i];
  }
  for (auto& row : c) {
    const float* const a_row = a[&row - c];
    for (int column = 0; column < 8; ++column) {
      double sum = row[column];
      for (int k = 0; k < depth; ++k) sum += double{a_row[k]} * b[k][column];
      row[column] = towards_zero(sum);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane >> 2, t = lane & 3;
    float* out = static_cast<float*>(lanes[lane]->output);
    for (int i = 0; i < 4; ++i) out[i] = c[g + 8 * (i / 2)][2 * t + i % 2];
  }
}

inline void multiply_tf32(WarpOperation* const* lanes, uint32_t) {
  // A tensor core reads no more than the upper 19 bits.
  auto value = [](uint32_t bits) { return __uint_as_float(bits & 0xffffe000); };
  multiply<8>(lanes, [&](const Fragments& in, auto& a, auto& b, int g, int t) {
    for (int i = 0; i < 4; ++i) a[g + 8 * (i % 2)][t + 4 * (i / 2)] = value(in.a[i]);
    for (int i = 0; i < 2; ++i) b[t + 4 * i][g] = value(in.b[i]);
  });
}

inline void multiply_bf16(WarpOperation* const* lanes, uint32_t) {
  auto value = [](uint32_t bits, int half) {
    return __uint_as_float(half ? bits & 0xffff0000 : bits << 16);
  };
  multiply<16>(lanes, [&](const Fragments& in, auto& a, auto& b, int g, int t) {
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 4; ++i) {
        a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + half] = value(in.a[i], half);
      }
      for (int i = 0; i < 2; ++i) b[2 * t + 8 * i + half][g] = value(in.b[i], half);
    }
  });
}

template <bool transposed>
void read_matrices(WarpOperation* const* lanes, uint32_t) {
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane >> 2, t = lane & 3;
    for (int matrix = 0; matrix < 4; ++matrix) {
      auto value = [&](int row, int column) {
        const auto* words = static_cast<const uint32_t*>(lanes[8 * matrix + row]->input);
        return words[column / 2] >> (16 * (column % 2)) & 0xffff;
      };
      const uint32_t low = transposed ? value(2 * t, g) : value(g, 2 * t);
      const uint32_t high = transposed ? value(2 * t + 1, g) : value(g, 2 * t + 1);
      static_cast<uint32_t*>(lanes[lane]->output)[matrix] = low | high << 16;
    }
  }
}

// The 16 bytes are read in the kernel's own, watched code.
inline void load_matrices(void (*perform)(WarpOperation* const*, uint32_t), uint32_t* fragment,
                          const void* row, Site site) {
  if (reinterpret_cast<uintptr_t>(row) % 16) fail("ldmatrix: a row is not aligned to 16 bytes");
  uint32_t words[4], result[4];
  copy_words(words, row, 16);
  WarpOperation operation{perform, 0xffffffffu, site, false, words, result, 0};
  meet(operation);
  for (int i = 0; i < 4; ++i) fragment[i] = result[i];
}

inline void multiply_accumulate(void (*perform)(WarpOperation* const*, uint32_t),
                                float (&accumulator)[4], const uint32_t* a, const uint32_t* b,
                                Site site) {
  const Fragments in{a, b, accumulator};
  float result[4];
  WarpOperation operation{perform, 0xffffffffu, site, false, &in, result, 0};
  meet(operation);
  for (int i = 0; i < 4; ++i) accumulator[i] = result[i];
}

// The target is poisoned now and written when it is waited for: who forgets to wait reads NaN.
inline void start_copy(void* to, const void* from, int bytes, bool inside) {
  async_copy_issue({to, from, bytes, inside, 0});
  fill_words(to, 0xffffffffu, bytes);
}

}  // namespace emulator

namespace usvs::simt {

inline void mma_m16n8k8_tf32(float (&accumulator)[4], const uint32_t (&a)[4],
                             const uint32_t (&b)[2], EMULATOR_HERE) {
  emulator::multiply_accumulate(emulator::multiply_tf32, accumulator, a, b, EMULATOR_SITE);
}
inline void mma_m16n8k16_bf16(float (&accumulator)[4], const uint32_t (&a)[4],
                              const uint32_t (&b)[2], EMULATOR_HERE) {
  emulator::multiply_accumulate(emulator::multiply_bf16, accumulator, a, b, EMULATOR_SITE);
}
inline void ldmatrix_x4(uint32_t (&fragment)[4], const void* row, EMULATOR_HERE) {
  emulator::load_matrices(emulator::read_matrices<false>, fragment, row, EMULATOR_SITE);
}
inline void ldmatrix_x4_transposed(uint32_t (&fragment)[4], const void* row, EMULATOR_HERE) {
  emulator::load_matrices(emulator::read_matrices<true>, fragment, row, EMULATOR_SITE);
}
inline void cp_async_16(void* shared, const void* global, bool inside = true) {
  emulator::start_copy(shared, global, 16, inside);
}
inline void cp_async_4(void* shared, const void* global, bool inside = true) {
  emulator::start_copy(shared, global, 4, inside);
}
inline void cp_async_commit() { emulator::async_copy_commit(); }
template <int pending>
void cp_async_wait() {
  emulator::AsyncCopy copy;
  while (emulator::async_copy_take(pending, copy)) {
    if (copy.inside) {
      emulator::copy_words(copy.to, copy.from, copy.bytes);
    } else {
      emulator::fill_words(copy.to, 0, copy.bytes);
    }
  }
}

}  // namespace usvs::simt
