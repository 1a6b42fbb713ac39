// The emulator's runtime: a grid's blocks one after another, a block's threads as fibers of which
// one runs until it waits. Compiled WITHOUT sanitizers; it calls their hooks itself.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "vector_types_of_cuda.h"

namespace emulator {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Where a kernel waits, so that threads which meet at different places are distinguished.
struct Site {
  const char* file;
  int line;
  bool operator==(const Site& other) const;
};
#define EMULATOR_HERE const char *file_ = __builtin_FILE(), int line_ = __builtin_LINE()
#define EMULATOR_SITE \
  ::emulator::Site { file_, line_ }

struct ThreadIds {
  uint3 thread, block;
  dim3 block_size, grid_size;
  unsigned linear, lane, warp;  // lane and warp of the thread numbered `linear` in its block
};
extern ThreadIds* current;  // of the fiber that runs

// In which order threads that could run do run.
enum class Policy {
  fifo,        // in turn
  run_ahead,   // the one that waited last goes on: a thread runs as far as it can
  uniform,     // any, with equal chance
  priorities,  // the one of highest random priority, which now and then changes
};

struct Options {
  Policy policy = Policy::uniform;
  uint64_t seed = 1;
  size_t most_shared_bytes = 227 * 1024;  // what a block of sm_90 may ask for
};
extern Options options;

// In a mutated copy of a kernel: whether this mutant is the active one.
extern const int active_mutant;
inline bool is_active(int number) { return number == active_mutant; }

struct Statistics {
  uint64_t switches, barriers, warp_operations, threads, blocks, launches, most_shared_bytes;
};
extern Statistics statistics;

void run_grid(const char* name, dim3 grid, dim3 block, size_t dynamic_bytes, void (*body)(void*),
              void* context);
[[noreturn]] void fail(const std::string& what);

void barrier(Site site);
int barrier_count(bool predicate, Site site);  // number of threads whose predicate is true

// What a lane brings to an operation of its warp; it is on the lane's stack. The last lane of
// `mask` to come calls `perform` for all.
struct WarpOperation {
  void (*perform)(WarpOperation* const* lanes, uint32_t mask);
  uint32_t mask;
  Site site;
  bool orders_memory;  // __syncwarp does, shuffles do not
  const void* input;
  void* output;
  int source;
};
void meet(WarpOperation& operation);

void* shared_array(const void* key, size_t bytes);  // the same key: the same array in this block
void* dynamic_shared_array(size_t offset, size_t bytes);
void fence();

struct AsyncCopy {
  void* to;
  const void* from;
  int bytes;
  bool inside;
  int group;
};
void async_copy_issue(const AsyncCopy& copy);
void async_copy_commit();
// Takes a copy that must be complete when `pending` groups may be under way; false: none is left.
bool async_copy_take(int pending, AsyncCopy& copy);

}  // namespace emulator
