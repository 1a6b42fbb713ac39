// occupancy ARCHITECTURE REGISTERS THREADS STATIC_BYTES DYNAMIC_BYTES
//
// Prints how many blocks a multiprocessor holds, by NVIDIA's own calculator (a header, no GPU).
// What a multiprocessor has is written here by hand, from the CUDA C++ programming guide's table of
// compute capabilities.
#include <cuda_occupancy.h>
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

int main(int count, char** words) {
  if (count != 6) return 2;
  const int architecture = std::atoi(words[1]), threads = std::atoi(words[3]);
  const bool ampere = architecture == 80;
  cudaOccDeviceProp device{};
  device.computeMajor = architecture / 10;
  device.computeMinor = architecture % 10;
  device.maxThreadsPerBlock = 1024;
  device.maxThreadsPerMultiprocessor = 2048;
  device.regsPerBlock = device.regsPerMultiprocessor = 65536;
  device.warpSize = 32;
  device.sharedMemPerBlock = 48 * 1024;
  device.sharedMemPerMultiprocessor = (ampere ? 164 : 228) * 1024;
  device.sharedMemPerBlockOptin = (ampere ? 163 : 227) * 1024;
  device.reservedSharedMemPerBlock = 1024;
  device.numSms = ampere ? 108 : architecture == 90 ? 132 : 148;
  cudaOccFuncAttributes kernel{};
  kernel.maxThreadsPerBlock = 1024;
  kernel.numRegs = std::atoi(words[2]);
  // From sm_90 on, the tool counts the kilobyte that every block reserves as the kernel's own.
  const int reported = std::atoi(words[4]);
  kernel.sharedSizeBytes = !ampere && reported >= 1024 ? reported - 1024 : reported;
  kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
  kernel.maxDynamicSharedSizeBytes = device.sharedMemPerBlockOptin - kernel.sharedSizeBytes;
  kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
  kernel.numBlockBarriers = 1;
  cudaOccDeviceState state{};
  state.cacheConfig = CACHE_PREFER_NONE;
  state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
  cudaOccResult result{};
  const auto error = cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state,
                                                             threads, std::atoi(words[5]));
  if (error != CUDA_OCC_SUCCESS) return 1;
  std::printf("%d\n", result.activeBlocksPerMultiprocessor);
}
