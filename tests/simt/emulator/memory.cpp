// Shared memory, cp.async, and the report of what each thread was doing.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "block.h"

namespace emulator {
namespace {

struct Array {
  void* memory;
  size_t bytes;
};
std::map<const void*, Array> static_arrays;
std::map<size_t, Array> dynamic_arrays;  // by offset
size_t static_bytes = 0;
std::vector<void*> dropped;  // ThreadSanitizer must not see the same address in two blocks
char allocation;

// A heap block of its own for every array, so that AddressSanitizer sees each one's ends; full of
// 0xFF, which is NaN in every float format, so that reading before writing shows.
Array new_array(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 128, bytes)) abort();
  std::memset(memory, 0xFF, bytes);
  return {memory, bytes};
}

void count_bytes() {
  const size_t bytes = static_bytes + block.dynamic_bytes;
  if (bytes > options.most_shared_bytes) fail("more shared memory than a block may have");
  statistics.most_shared_bytes = std::max<uint64_t>(statistics.most_shared_bytes, bytes);
}

void drop(const Array& array) {
  if (EMULATOR_TSAN) {
    dropped.push_back(array.memory);
  } else {
    free(array.memory);
  }
}

std::string place(const Site& site) {
  const char* slash = std::strrchr(site.file, '/');
  return std::string(slash ? slash + 1 : site.file) + ":" + std::to_string(site.line);
}

std::string doing(const Thread& thread) {
  char mask[16];
  switch (thread.state) {
    case State::exited:
      return "exited";
    case State::at_barrier:
      return "at __syncthreads, " + place(thread.site);
    case State::in_warp:
      std::snprintf(mask, sizeof mask, "0x%08x", thread.operation->mask);
      return std::string("in a warp operation of mask ") + mask + ", " + place(thread.site);
    case State::ready:
      break;
  }
  return "running or ready";
}

}  // namespace

std::string report(const std::string& what) {
  const uint3 index = block.threads[0].ids.block;
  std::string text = what + "\n  kernel " + block.kernel + ", block (" + std::to_string(index.x) +
                     ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
  std::map<std::string, std::vector<int>> groups;
  for (int i = 0; i < block.size; ++i) groups[doing(block.threads[i])].push_back(i);
  for (const auto& [doing, threads] : groups) {
    text += "\n  " + std::to_string(threads.size()) + " thread(s) " + doing + ":";
    for (size_t i = 0; i < threads.size() && i < 12; ++i) text += " " + std::to_string(threads[i]);
    if (threads.size() > 12) text += " ...";
  }
  return text;
}

void* shared_array(const void* key, size_t bytes) {
  bool fresh = false;
  Array array;
  {
    const AsHost scope;
    auto [at, added] = static_arrays.try_emplace(key, Array{});
    fresh = added;
    if (fresh) at->second = new_array(bytes);
    array = at->second;
    release(&allocation);
  }
  acquire(&allocation);
  if (fresh) static_bytes += bytes;
  if (fresh) count_bytes();
  return array.memory;
}

void* dynamic_shared_array(size_t offset, size_t bytes) {
  if (offset + bytes > block.dynamic_bytes) {
    fail("a dynamic shared array ends at byte " + std::to_string(offset + bytes) + " of the " +
         std::to_string(block.dynamic_bytes) + " that the launch asked for");
  }
  if (offset % 16) fail("a dynamic shared array begins at a byte that 16 does not divide");
  Array array;
  bool overlaps = false;
  {
    const AsHost scope;
    auto [at, added] = dynamic_arrays.try_emplace(offset, Array{});
    if (added) at->second = new_array(bytes);
    array = at->second;
    const auto after = std::next(at);
    overlaps =
        array.bytes != bytes || (after != dynamic_arrays.end() && offset + bytes > after->first);
    if (at != dynamic_arrays.begin()) {
      const auto before = std::prev(at);
      overlaps |= before->first + before->second.bytes > offset;
    }
    release(&allocation);
  }
  acquire(&allocation);
  if (overlaps) fail("two dynamic shared arrays overlap");
  count_bytes();
  return array.memory;
}

void drop_shared_memory() {
  for (const auto& [key, array] : static_arrays) drop(array);
  for (const auto& [offset, array] : dynamic_arrays) drop(array);
  static_arrays.clear();
  dynamic_arrays.clear();
  static_bytes = 0;
}

void free_shared_memory() {
  for (void* memory : dropped) free(memory);
  dropped.clear();
}

void async_copy_issue(const AsyncCopy& copy) {
  const auto addresses = reinterpret_cast<uintptr_t>(copy.to) |
                         (copy.inside ? reinterpret_cast<uintptr_t>(copy.from) : 0);
  if (addresses % copy.bytes) fail("cp.async: an address is not aligned to what it copies");
  const AsHost scope;
  Thread& self = block.threads[block.running];
  self.copies.push_back(copy);
  self.copies.back().group = self.groups_committed;
}

void async_copy_commit() { ++block.threads[block.running].groups_committed; }

bool async_copy_take(int pending, AsyncCopy& copy) {
  Thread& self = block.threads[block.running];
  const int complete = self.groups_committed - pending;  // groups numbered below it
  if (!self.copies.empty() && self.copies.front().group < complete) {
    const AsHost scope;
    copy = self.copies.front();
    self.copies.pop_front();
    return true;
  }
  self.groups_done = self.copies.empty() ? self.groups_committed : self.copies.front().group;
  return false;
}

}  // namespace emulator
