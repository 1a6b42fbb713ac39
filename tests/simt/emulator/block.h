// The block that runs: its threads, its barrier, its shared memory.
#pragma once
#include <deque>
#include <string>
#include <vector>

#include "fibers.h"
#include "runtime.h"

namespace emulator {

enum class State { ready, at_barrier, in_warp, exited };

struct Thread {
  ThreadIds ids;
  Fiber fiber;
  State state;
  Site site;                 // where it waits
  WarpOperation* operation;  // what it waits in
  bool predicate;
  uint64_t priority;
  std::deque<AsyncCopy> copies;  // issued and not yet waited for
  int groups_committed, groups_done;
};

// Which threads could run. A ring without library calls: the runtime runs on the kernel's fibers,
// and a memmove there would look like an access of the kernel's.
struct ReadyQueue {
  int items[1024];
  unsigned first = 0, count = 0;

  int& at(unsigned place) { return items[(first + place) % 1024]; }
  void push(int thread) { at(count++) = thread; }
  int take(unsigned place) {
    const int thread = at(place);
    if (place == 0) {
      ++first;
    } else {
      at(place) = at(count - 1);
    }
    --count;
    return thread;
  }
};

struct Block {
  const char* kernel;
  void (*body)(void*);
  void* context;
  size_t dynamic_bytes;
  std::string error;

  int size = 0;
  std::vector<Thread> threads;
  std::vector<char*> stacks;
  ReadyQueue ready;
  int running = -1;  // -1: the host
  int live = 0;      // not exited

  int arrived = 0;  // at the barrier
  Site barrier_site;
  unsigned generation = 0;
  unsigned warp_turn[32] = {};
};
extern Block block;

std::string report(const std::string& what);  // with what each thread does
void drop_shared_memory();                    // the block is over
void free_shared_memory();                    // the grid is over

}  // namespace emulator
