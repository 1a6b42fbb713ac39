// The only file that names CUDA. With nvcc the names come from CUDA; without it tests/simt/emulator
// provides them on the CPU, one fiber for each CUDA thread.
//
// A kernel may use: threadIdx, blockIdx, blockDim, gridDim; __syncthreads, __syncwarp,
// __shfl_*_sync, __ballot_sync; __ldg; atomics on integers; float2, float4, uint2, uint4; and what
// this file defines. It accesses memory by subscripts and by the copy functions below only: the
// mutation tests of tests/simt search for these spellings.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "stream.h"

#ifndef __CUDACC__
#include "simt_emulator.h"
#else
#include <cuda_bf16.h>
#include <cuda_runtime.h>

// An array of `count` values in the block's shared memory, not initialised.
#define USVS_SHARED(type, name, count) __shared__ __align__(16) type name[count]
// An array in the dynamic shared memory of the launch, from byte `offset` on. Arrays must not
// overlap unless they are the same array.
#define USVS_DYNAMIC_SHARED(type, name, offset, count)                   \
  extern __shared__ __align__(128) unsigned char usvs_dynamic_shared_[]; \
  type* const name = reinterpret_cast<type*>(usvs_dynamic_shared_ + (offset))

namespace usvs::simt {

using bf16 = __nv_bfloat16;

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();  // the runtime keeps it otherwise, and the next launch would report it
  throw std::runtime_error(std::string("usvs: ") + what + ": " + cudaGetErrorString(error));
}

// Makes the stream's device current for the lifetime of this object. torch has a CUDA runtime of
// its own, whose current device may be another one.
class DeviceScope {
 public:
  explicit DeviceScope(const Stream& stream) {
    check(cudaGetDevice(&before_), "the current CUDA device");
    check(cudaSetDevice(stream.device), "choosing the CUDA device");
  }
  ~DeviceScope() { cudaSetDevice(before_); }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_ = 0;
};

// Launches a grid on the stream without waiting. `shared_bytes`: the size of the kernel's
// USVS_DYNAMIC_SHARED arrays.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            size_t shared_bytes, const Stream& stream, const Arguments&... arguments) {
  const DeviceScope scope(stream);
  if (shared_bytes > 48 * 1024) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          name);
  }
  // clang-format off
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream.handle)>>>(arguments...);
  // clang-format on
  check(cudaGetLastError(), name);
}

// Fills memory with zeros, asynchronously on the stream.
inline void clear(void* memory, size_t bytes, const Stream& stream) {
  const DeviceScope scope(stream);
  check(cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(stream.handle)), "clear");
}

// ---- numbers
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ bf16 to_bf16(float x) { return __float2bfloat16_rn(x); }
// Two bfloat16 numbers in a register, `low` in the lower half, as tensor cores read them.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ uint32_t to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}
// From the special-function unit, within 2 + |x| / 50 ulp; 0 where the result is denormal.
__device__ __forceinline__ float fast_exp(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * 1.4426950408889634f));
  return power;
}
// Within 2 ulp, for divisors below 2^126.
__device__ __forceinline__ float fast_divide(float a, float b) { return __fdividef(a, b); }

// ---- tensor cores: accumulator += a b, fragments as in the PTX ISA (g = lane / 4, t = lane % 4)
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&accumulator)[4], const uint32_t (&a)[4],
                                                 const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(accumulator[0]), "+f"(accumulator[1]), "+f"(accumulator[2]), "+f"(accumulator[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&accumulator)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(accumulator[0]), "+f"(accumulator[1]), "+f"(accumulator[2]), "+f"(accumulator[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Loads four 8 x 8 matrices of 16-bit values from shared memory. Lane l passes the address of row l
// % 8 of matrix l / 8 (16 aligned bytes) and gets columns 2t and 2t + 1 of row g of each matrix.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&fragment)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(address)
               : "memory");
}
// The same with every matrix transposed: rows 2t and 2t + 1 of column g.
__device__ __forceinline__ void ldmatrix_x4_transposed(uint32_t (&fragment)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(address)
               : "memory");
}

// ---- asynchronous copies from global into shared memory
// 16 aligned bytes, or 16 zeros if not `inside` (then the source is not read).
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool inside = true) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" ::"r"(address), "l"(global),
               "r"(inside ? 16 : 0)
               : "memory");
}
// 4 aligned bytes.
__device__ __forceinline__ void cp_async_4(void* shared, const void* global, bool inside = true) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0],[%1],4,%2;" ::"r"(address), "l"(global),
               "r"(inside ? 4 : 0)
               : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most `pending` of this thread's groups of copies are incomplete.
template <int pending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

}  // namespace usvs::simt
#endif
