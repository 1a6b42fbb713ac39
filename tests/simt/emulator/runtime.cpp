#include "runtime.h"

#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "block.h"
#include "fibers.h"

namespace emulator {

ThreadIds* current = nullptr;
Options options;
Statistics statistics;
const int active_mutant =
    std::getenv("EMULATOR_MUTANT") ? std::atoi(std::getenv("EMULATOR_MUTANT")) : -1;
Block block;

bool Site::operator==(const Site& other) const {
  return line == other.line && !std::strcmp(file, other.file);
}

namespace {

uint64_t random_state;
uint64_t random_number() {  // xorshift
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

// Objects of happens-before edges: what each orders is in its name.
char launch_before_block, block_before_host, fences;
// A block's own, made and freed with it: what they know dies then, or they would order blocks.
struct BlockEdges {
  char barrier[2];  // in turn, or a late waker would take up the next generation's clock
  char warp[32][1024];
};
BlockEdges* edges = nullptr;

void go_to(int next) {
  const int before = block.running;
  if (next == before) return;
  ++statistics.switches;
  block.running = next;
  current = next < 0 ? nullptr : &block.threads[next].ids;
  Fiber& from = before < 0 ? host_fiber() : block.threads[before].fiber;
  Fiber& to = next < 0 ? host_fiber() : block.threads[next].fiber;
  switch_fiber(from, to, before >= 0 && block.threads[before].state == State::exited);
}

unsigned choose() {
  ReadyQueue& ready = block.ready;
  switch (options.policy) {
    case Policy::fifo:
      return 0;
    case Policy::run_ahead:
      return ready.count - 1;
    case Policy::uniform:
      return random_number() % ready.count;
    case Policy::priorities:
      break;
  }
  unsigned best = 0;
  for (unsigned i = 1; i < ready.count; ++i) {
    if (block.threads[ready.at(i)].priority > block.threads[ready.at(best)].priority) best = i;
  }
  if (random_number() % 256 == 0) block.threads[ready.at(best)].priority = random_number();
  return best;
}

void run_another() {  // the running fiber cannot go on
  if (block.ready.count == 0) {
    if (block.live == 0) return go_to(-1);
    fail("DEADLOCK: no thread can go on");
  }
  go_to(block.ready.take(choose()));
}

void make_ready(int thread) {
  block.threads[thread].state = State::ready;
  block.ready.push(thread);
}

void open_barrier() {
  ++statistics.barriers;
  for (int i = 0; i < block.size; ++i) {
    if (block.threads[i].state == State::at_barrier) make_ready(i);
  }
  block.arrived = 0;
  ++block.generation;
}

void run_thread() {
  Thread* self = &block.threads[block.running];
  arrive(self->fiber);
  acquire(&launch_before_block);
  block.body(block.context);
  self = &block.threads[block.running];
  if (!self->copies.empty() || self->groups_committed != self->groups_done) {
    fail("a thread exits while its cp.async copies are under way");
  }
  release(&block_before_host);
  self->state = State::exited;
  --block.live;
  if (block.arrived) fail("DIVERGENCE: a thread exits while others wait at __syncthreads");
  run_another();
  abort();
}

void start_thread(int number, uint3 index, dim3 grid, dim3 size) {
  Thread& thread = block.threads[number];
  const unsigned linear = number;
  thread.ids = {{linear % size.x, linear / size.x % size.y, linear / size.x / size.y},
                index,
                size,
                grid,
                linear,
                linear % 32,
                linear / 32};
  thread.fiber.stack = block.stacks[number];
  renew_stack(thread.fiber.stack);
  thread.operation = nullptr;
  thread.priority = random_number();
  thread.copies.clear();
  thread.groups_committed = thread.groups_done = 0;
  prepare(thread.fiber, run_thread, linear);
  make_ready(number);
}

void run_block(uint64_t number, dim3 grid, dim3 size) {
  const uint3 index{static_cast<unsigned>(number % grid.x),
                    static_cast<unsigned>(number / grid.x % grid.y),
                    static_cast<unsigned>(number / grid.x / grid.y)};
  block.ready.first = block.ready.count = 0;
  block.live = block.size;
  block.arrived = 0;
  edges = new BlockEdges;
  for (int i = 0; i < block.size; ++i) start_thread(i, index, grid, size);
  release(&launch_before_block);
  statistics.threads += block.size;
  ++statistics.blocks;
  run_another();
  for (int i = 0; i < block.size; ++i) discard(block.threads[i].fiber);
  delete edges;
  drop_shared_memory();
}

void check_shape(const char* name, dim3 grid, dim3 size, size_t dynamic_bytes) {
  auto refuse = [&](const std::string& what) { throw Error(std::string(name) + ": " + what); };
  const uint64_t threads = uint64_t{size.x} * size.y * size.z;
  if (threads < 1 || threads > 1024 || size.z > 64)
    refuse("a block of 1 ... 1024 threads expected");
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    refuse("a grid of 1 ... 2^31 - 1 by 65535 by 65535 blocks expected");
  }
  if (dynamic_bytes > options.most_shared_bytes) refuse("more shared memory than a block may have");
}

}  // namespace

void fail(const std::string& what) {
  {
    const AsHost scope;
    block.error = report(what);
  }
  if (block.running >= 0) go_to(-1);
  throw Error(block.error);
}

void barrier(Site site) {
  Thread& self = block.threads[block.running];
  self.site = site;
  self.state = State::at_barrier;
  if (block.live != block.size) fail("DIVERGENCE: __syncthreads after threads of the block exited");
  if (block.arrived && !(block.barrier_site == site)) {
    fail("DIVERGENCE: threads meet at different __syncthreads");
  }
  block.barrier_site = site;
  char* const generation = &edges->barrier[block.generation % 2];
  release(generation);
  if (++block.arrived == block.live) open_barrier();
  run_another();
  acquire(generation);
}

int barrier_count(bool predicate, Site site) {
  block.threads[block.running].predicate = predicate;
  barrier(site);
  int count = 0;
  for (int i = 0; i < block.size; ++i) count += block.threads[i].predicate;
  barrier(site);
  return count;
}

void meet(WarpOperation& operation) {
  const int number = block.running, first = number & ~31;
  Thread& self = block.threads[number];
  self.operation = &operation;
  self.site = operation.site;
  self.state = State::in_warp;
  ++statistics.warp_operations;
  const int lanes = block.size - first < 32 ? block.size - first : 32;
  if (!(operation.mask >> (number - first) & 1)) {
    fail("a warp operation by a lane that its mask does not name");
  }
  WarpOperation* brought[32] = {};
  for (int lane = 0; lane < lanes; ++lane) {
    if (!(operation.mask >> lane & 1)) continue;
    const Thread& other = block.threads[first + lane];
    if (other.state == State::exited) fail("a warp operation names a lane that has exited");
    if (other.state != State::in_warp || other.operation->mask != operation.mask) {
      return run_another();
    }
    if (other.operation->perform != operation.perform || !(other.site == self.site)) {
      fail("DIVERGENCE: lanes of one mask meet in different warp operations");
    }
    brought[lane] = other.operation;
  }
  if (operation.orders_memory) {
    char* generation = &edges->warp[first / 32][block.warp_turn[first / 32]++ % 1024];
    for (int i = 0; i < 32; ++i) {
      if (brought[i]) release_as(block.threads[first + i].fiber, self.fiber, generation);
    }
    for (int i = 0; i < 32; ++i) {
      if (brought[i]) acquire_as(block.threads[first + i].fiber, self.fiber, generation);
    }
  }
  watch_accesses(false);
  operation.perform(brought, operation.mask);
  watch_accesses(true);
  for (int lane = 0; lane < 32; ++lane) {
    if (brought[lane]) make_ready(first + lane);
  }
  run_another();
}

void fence() {
  release(&fences);
  acquire(&fences);
}

void run_grid(const char* name, dim3 grid, dim3 size, size_t dynamic_bytes, void (*body)(void*),
              void* context) {
  check_shape(name, grid, size, dynamic_bytes);
  begin_on_host();
  ++statistics.launches;
  random_state = options.seed * 0x9e3779b97f4a7c15u | 1;
  for (int i = 0; i < 8; ++i) random_number();
  block.kernel = name;
  block.body = body;
  block.context = context;
  block.dynamic_bytes = dynamic_bytes;
  block.error.clear();
  block.size = size.x * size.y * size.z;
  if (block.threads.size() < size_t(block.size)) block.threads.resize(block.size);
  while (block.stacks.size() < size_t(block.size)) block.stacks.push_back(new_stack());
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  std::vector<uint64_t> order(blocks);
  for (uint64_t i = 0; i < blocks; ++i) order[i] = i;
  if (options.policy >= Policy::uniform) {
    for (uint64_t i = blocks; i > 1; --i) std::swap(order[i - 1], order[random_number() % i]);
  }
  for (uint64_t turn = 0; turn < blocks && block.error.empty(); ++turn) {
    run_block(order[turn], grid, size);
  }
  acquire(&block_before_host);
  free_shared_memory();
  if (!block.error.empty()) throw Error(block.error);
}

}  // namespace emulator
