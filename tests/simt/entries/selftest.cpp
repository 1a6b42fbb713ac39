// Kernels that try the emulator itself: what it must compute, and what it must refuse.
#include "arguments.h"
#include "kernels/simt.h"

namespace usvs::simt {
namespace {

const Stream stream{};

__global__ void shuffle_halves(int* out) {
  const int lane = threadIdx.x;
  const unsigned mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  if (lane < 16) {
    out[lane] = __shfl_xor_sync(mask, lane, 3);
  } else {
    out[lane] = __shfl_sync(mask, lane, 20);
  }
}

__global__ void prefix_sums(int* out) {
  int sum = threadIdx.x;
  const int lane = threadIdx.x % 32;
  for (int by = 1; by < 32; by *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, sum, by);
    if (lane >= by) sum += other;
  }
  out[threadIdx.x] = sum + 1000 * __syncthreads_count(threadIdx.x % 3 == 0);
}

__global__ void votes_and_atomics(int* out) {
  atomicAdd(&out[0], 1);
  if (__ballot_sync(0xffffffffu, threadIdx.x & 1) == 0xaaaaaaaau) atomicAdd(&out[1], 1);
  if (__all_sync(0xffffffffu, 1) && !__any_sync(0xffffffffu, 0)) atomicMax(&out[2], 7);
}

__global__ void reads_unwritten(float* out) {
  USVS_SHARED(float, values, 64);
  if (threadIdx.x < 32) values[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}

__global__ void reverses(float* out, bool barrier) {
  USVS_SHARED(float, values, 64);
  values[threadIdx.x] = threadIdx.x;
  if (barrier) __syncthreads();
  out[threadIdx.x] = values[63 - threadIdx.x];
}

__global__ void reverses_lanes(float* out, bool barrier) {
  USVS_SHARED(float, values, 32);
  values[threadIdx.x] = threadIdx.x;
  if (barrier) __syncwarp();
  out[threadIdx.x] = values[31 - threadIdx.x];
}

// Written, read, and written again for the next round: needs two barriers a round.
__global__ void two_rounds(float* out, bool second_barrier) {
  USVS_SHARED(float, values, 64);
  float sum = 0;
  for (int round = 0; round < 4; ++round) {
    values[threadIdx.x] = threadIdx.x + 100 * round;
    __syncthreads();
    sum += values[(threadIdx.x + 33) % 64];
    if (second_barrier) __syncthreads();
  }
  out[threadIdx.x] = sum;
}

__global__ void copies(const float* in, float* out, bool wait) {
  USVS_DYNAMIC_SHARED(float, values, 0, 128);
  USVS_DYNAMIC_SHARED(float, zeros, 512, 128);
  cp_async_16(&values[4 * threadIdx.x], &in[4 * threadIdx.x]);
  cp_async_16(&zeros[4 * threadIdx.x], &in[4 * threadIdx.x], false);
  cp_async_commit();
  if (wait) cp_async_wait<0>();
  __syncwarp();
  for (int i = threadIdx.x; i < 128; i += 32) out[i] = values[127 - i] + zeros[i];
}

__global__ void dynamic_array(float* out, int offset, int count) {
  USVS_DYNAMIC_SHARED(float, first, 0, 32);
  USVS_DYNAMIC_SHARED(float, second, offset, count);
  first[threadIdx.x] = 1;
  second[threadIdx.x % count] = 2;
  out[threadIdx.x] = 1;
}

// out[16, 8] = a[16, 16] b[8, 16]^T, a through ldmatrix.
__global__ void multiply_bf16(const bf16* a, const bf16* b, float* out) {
  USVS_SHARED(bf16, rows, 16 * 24);
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (int i = lane; i < 256; i += 32) rows[i / 16 * 24 + i % 16] = a[i];
  __syncwarp();
  uint32_t a_part[4], b_part[2];
  ldmatrix_x4(a_part, &rows[lane % 16 * 24 + lane / 16 * 8]);
  for (int i = 0; i < 2; ++i) {
    const bf16* pair = &b[16 * g + 2 * t + 8 * i];
    b_part[i] = pack_bf16(to_float(pair[0]), to_float(pair[1]));
  }
  float sums[4] = {};
  mma_m16n8k16_bf16(sums, a_part, b_part);
  for (int i = 0; i < 4; ++i) out[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = sums[i];
}

// The same with b[16, 8] read transposed out of shared memory.
__global__ void multiply_bf16_transposed(const bf16* a, const bf16* b, float* out) {
  USVS_SHARED(bf16, rows, 16 * 24);
  USVS_SHARED(bf16, columns, 32 * 8);
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (int i = lane; i < 256; i += 32) rows[i / 16 * 24 + i % 16] = a[i];
  for (int i = lane; i < 128; i += 32) columns[i] = b[i];
  for (int i = lane; i < 128; i += 32) columns[128 + i] = to_bf16(0.0f);
  __syncwarp();
  uint32_t a_part[4], b_part[4];
  ldmatrix_x4(a_part, &rows[lane % 16 * 24 + lane / 16 * 8]);
  ldmatrix_x4_transposed(b_part, &columns[8 * lane]);
  float sums[4] = {};
  mma_m16n8k16_bf16(sums, a_part, {b_part[0], b_part[1]});
  for (int i = 0; i < 4; ++i) out[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = sums[i];
}

// out[16, 8] = a[16, 8] b[8, 8]^T.
__global__ void multiply_tf32(const float* a, const float* b, float* out) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  uint32_t a_part[4], b_part[2];
  for (int i = 0; i < 4; ++i) a_part[i] = to_tf32(a[(g + 8 * (i % 2)) * 8 + t + 4 * (i / 2)]);
  for (int i = 0; i < 2; ++i) b_part[i] = to_tf32(b[g * 8 + t + 4 * i]);
  float sums[4] = {};
  mma_m16n8k8_tf32(sums, a_part, b_part);
  for (int i = 0; i < 4; ++i) out[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = sums[i];
}

// The legal way for the last block to add up what all have written.
__global__ void last_block(float* parts, unsigned* done, float* out) {
  USVS_SHARED(int, last, 1);
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = 1.0f + blockIdx.x;
    __threadfence();
    last[0] = atomicAdd(done, 1u) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (last[0] && threadIdx.x == 0) {
    float sum = 0;
    for (unsigned i = 0; i < gridDim.x; ++i) sum += parts[i];
    out[0] = sum;
  }
}

// The same for parts that a whole block writes: the barrier before the announcement is needed.
__global__ void last_block_of_many(float* parts, unsigned* done, float* out, bool barrier) {
  parts[blockIdx.x * 64 + threadIdx.x] = 1;
  if (barrier) __syncthreads();
  int last = 0;
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(done, 1u) == gridDim.x - 1;
    __threadfence();
  }
  if (!__syncthreads_or(last)) return;
  float sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += parts[i * 64 + 63 - threadIdx.x];
  out[threadIdx.x] = sum;
}

// ---- what must be refused
__global__ void half_a_barrier(int* out) {
  if (threadIdx.x < 16) __syncthreads();
  out[threadIdx.x] = 1;
}
__global__ void barrier_after_exit(int* out) {
  if (threadIdx.x >= 32) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}
__global__ void two_barriers(int* out) {
  if (threadIdx.x & 1) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}
__global__ void half_a_shuffle(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, int(threadIdx.x), 1);
}
__global__ void lane_not_named(int* out) {
  out[threadIdx.x] = __shfl_xor_sync(0x7fffffffu, int(threadIdx.x), 1);
}
__global__ void mixed_operations(int* out) {
  if (threadIdx.x & 1) {
    __syncwarp();
  } else {
    out[0] = __shfl_sync(0xffffffffu, 1, 0);
  }
}
__global__ void misaligned_vector(const float* in, float* out) {
  out[threadIdx.x] = reinterpret_cast<const float4*>(&in[1])->x;
}
__global__ void writes_at(float* out, int index) {
  if (threadIdx.x == 0) out[index] = 1;
}
__global__ void reads_at(const float* in, float* out, int index) {
  if (threadIdx.x == 0) out[0] = in[index];
}
__global__ void shared_at(float* out, int index) {
  USVS_SHARED(float, values, 32);
  values[threadIdx.x] = 1;
  if (threadIdx.x == 0) values[index] = 2;
  __syncwarp();
  out[threadIdx.x] = values[threadIdx.x];
}
__global__ void blocks_race(float* out) {
  if (threadIdx.x == 0) out[0] += 1;
}
__global__ void order_shows(float* out, int* turn) { out[threadIdx.x] = atomicAdd(turn, 1); }
__global__ void changes_input(float* in, float* out) { in[0] = out[0] = 1; }

}  // namespace

#define KERNEL(name, blocks, threads, shared_bytes, ...) \
  EMULATOR_ENTRY(name) { launch(#name, name, blocks, threads, shared_bytes, stream, __VA_ARGS__); }
#define OUT arguments.buffer<float>("out")
#define INT_OUT arguments.buffer<int>("out")
#define IN arguments.buffer<const float>("in")
#define NUMBER(name) static_cast<int>(arguments.integer(name))
#define BF16(name) arguments.buffer<const bf16>(name)
KERNEL(shuffle_halves, 1, 32, 0, INT_OUT)
KERNEL(prefix_sums, 1, 64, 0, INT_OUT)
KERNEL(votes_and_atomics, 3, 64, 0, INT_OUT)
KERNEL(reads_unwritten, 1, 64, 0, OUT)
KERNEL(reverses, 1, 64, 0, OUT, NUMBER("barrier") != 0)
KERNEL(reverses_lanes, 1, 32, 0, OUT, NUMBER("barrier") != 0)
KERNEL(two_rounds, 1, 64, 0, OUT, NUMBER("barrier") != 0)
KERNEL(copies, 1, 32, 1024, IN, OUT, NUMBER("wait") != 0)
KERNEL(dynamic_array, 1, 32, 256, OUT, NUMBER("offset"), NUMBER("count"))
KERNEL(multiply_bf16, 1, 32, 0, BF16("a"), BF16("b"), OUT)
KERNEL(multiply_bf16_transposed, 1, 32, 0, BF16("a"), BF16("b"), OUT)
KERNEL(multiply_tf32, 1, 32, 0, arguments.buffer<const float>("a"),
       arguments.buffer<const float>("b"), OUT)
KERNEL(last_block, 8, 32, 0, arguments.buffer<float>("parts"), arguments.buffer<unsigned>("done"),
       OUT)
KERNEL(last_block_of_many, 3, 64, 0, arguments.buffer<float>("parts"),
       arguments.buffer<unsigned>("done"), OUT, NUMBER("barrier") != 0)
KERNEL(half_a_barrier, 1, 32, 0, INT_OUT)
KERNEL(barrier_after_exit, 1, 64, 0, INT_OUT)
KERNEL(two_barriers, 1, 32, 0, INT_OUT)
KERNEL(half_a_shuffle, 1, 32, 0, INT_OUT)
KERNEL(lane_not_named, 1, 32, 0, INT_OUT)
KERNEL(mixed_operations, 1, 32, 0, INT_OUT)
KERNEL(misaligned_vector, 1, 1, 0, IN, OUT)
KERNEL(writes_at, 1, 32, 0, OUT, NUMBER("index"))
KERNEL(reads_at, 1, 32, 0, IN, OUT, NUMBER("index"))
KERNEL(shared_at, 1, 32, 0, OUT, NUMBER("index"))
KERNEL(blocks_race, 4, 32, 0, OUT)
KERNEL(order_shows, 1, 32, 0, OUT, arguments.buffer<int>("turn"))
KERNEL(changes_input, 1, 1, 0, arguments.buffer<float>("in"), OUT)
EMULATOR_ENTRY(too_many_threads) {
  launch("prefix_sums", prefix_sums, 1, 2048, 0, stream, INT_OUT);
}
EMULATOR_ENTRY(no_blocks) { launch("prefix_sums", prefix_sums, 0, 32, 0, stream, INT_OUT); }

}  // namespace usvs::simt
