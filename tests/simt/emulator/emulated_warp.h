// Barriers, shuffles, votes, fences, atomics.
#pragma once
#include "emulated_math.h"
#include "runtime.h"

constexpr int warpSize = 32;

inline void __syncthreads(EMULATOR_HERE) { emulator::barrier(EMULATOR_SITE); }
inline int __syncthreads_count(int predicate, EMULATOR_HERE) {
  return emulator::barrier_count(predicate, EMULATOR_SITE);
}
inline int __syncthreads_or(int predicate, EMULATOR_HERE) {
  return emulator::barrier_count(predicate, EMULATOR_SITE) > 0;
}
inline int __syncthreads_and(int predicate, EMULATOR_HERE) {
  return emulator::barrier_count(!predicate, EMULATOR_SITE) == 0;
}

namespace emulator {

inline void do_nothing(WarpOperation* const*, uint32_t) {}

inline void vote(WarpOperation* const* lanes, uint32_t mask) {
  uint32_t votes = 0;
  for (int i = 0; i < 32; ++i) {
    if (mask >> i & 1) votes |= uint32_t(lanes[i]->source != 0) << i;
  }
  for (int i = 0; i < 32; ++i) {
    if (mask >> i & 1) *static_cast<uint32_t*>(lanes[i]->output) = votes;
  }
}

template <typename T>
void exchange(WarpOperation* const* lanes, uint32_t mask) {
  for (int i = 0; i < 32; ++i) {
    if (!(mask >> i & 1)) continue;
    const int source = lanes[i]->source;
    // A lane that the mask leaves out gives nothing that may be relied on.
    if (mask >> source & 1) {
      *static_cast<T*>(lanes[i]->output) = *static_cast<const T*>(lanes[source]->input);
    } else {
      std::memset(lanes[i]->output, 0xFF, sizeof(T));
    }
  }
}

template <typename T>
T shuffle(uint32_t mask, T value, int source, Site site) {
  T result;
  WarpOperation operation{exchange<T>, mask, site, false, &value, &result, source};
  meet(operation);
  return result;
}

}  // namespace emulator

inline void __syncwarp(uint32_t mask = 0xffffffffu, EMULATOR_HERE) {
  emulator::WarpOperation operation{
      emulator::do_nothing, mask, EMULATOR_SITE, true, nullptr, nullptr, 0};
  emulator::meet(operation);
}
template <typename T>
T __shfl_sync(uint32_t mask, T value, int source, int width = 32, EMULATOR_HERE) {
  const int lane = emulator::current->lane;
  return emulator::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)),
                           EMULATOR_SITE);
}
template <typename T>
T __shfl_xor_sync(uint32_t mask, T value, int flipped, int width = 32, EMULATOR_HERE) {
  const int lane = emulator::current->lane, source = lane ^ flipped;
  const bool inside = source < (lane & ~(width - 1)) + width;
  return emulator::shuffle(mask, value, inside ? source : lane, EMULATOR_SITE);
}
template <typename T>
T __shfl_down_sync(uint32_t mask, T value, unsigned by, int width = 32, EMULATOR_HERE) {
  const int lane = emulator::current->lane, source = lane + int(by);
  const bool inside = source < (lane & ~(width - 1)) + width;
  return emulator::shuffle(mask, value, inside ? source : lane, EMULATOR_SITE);
}
template <typename T>
T __shfl_up_sync(uint32_t mask, T value, unsigned by, int width = 32, EMULATOR_HERE) {
  const int lane = emulator::current->lane, source = lane - int(by);
  const bool inside = source >= (lane & ~(width - 1));
  return emulator::shuffle(mask, value, inside ? source : lane, EMULATOR_SITE);
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate, EMULATOR_HERE) {
  uint32_t votes;
  emulator::WarpOperation operation{emulator::vote, mask,   EMULATOR_SITE, false,
                                    nullptr,        &votes, predicate != 0};
  emulator::meet(operation);
  return votes;
}
inline int __any_sync(uint32_t mask, int predicate, EMULATOR_HERE) {
  return __ballot_sync(mask, predicate, file_, line_) != 0;
}
inline int __all_sync(uint32_t mask, int predicate, EMULATOR_HERE) {
  return __ballot_sync(mask, predicate, file_, line_) == mask;
}
inline void __threadfence() { emulator::fence(); }
inline void __threadfence_block() { emulator::fence(); }

// Relaxed, as CUDA's are. Sums of floats depend on the order, so the schedules would not agree:
// only integers here.
template <typename T>
T atomicAdd(T* address, T value) {
  static_assert(std::is_integral_v<T>);
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}
template <typename T>
T atomicExch(T* address, T value) {
  return __atomic_exchange_n(address, value, __ATOMIC_RELAXED);
}
template <typename T>
T atomicCAS(T* address, T expected, T value) {
  __atomic_compare_exchange_n(address, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}
template <typename T>
T atomicMax(T* address, T value) {
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (old < value && !__atomic_compare_exchange_n(address, &old, value, false, __ATOMIC_RELAXED,
                                                     __ATOMIC_RELAXED)) {
  }
  return old;
}
