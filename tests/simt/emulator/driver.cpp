// driver ENTRY CASE RESULT POLICY:SEED ...
//
// Runs an entry once for each schedule, on fresh buffers, and writes the buffers that the first
// schedule left. Exits with 3 when the emulator refuses something, 4 when a buffer was overrun, 5
// when schedules disagree, 6 when an input was changed; sanitizers exit with their own numbers.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "arguments.h"

namespace emulator {
namespace {

constexpr size_t kGuardBytes = 64;
constexpr unsigned char kGuard = 0xA5;

std::map<std::string, Entry>& entries() {
  static std::map<std::string, Entry> all;
  return all;
}

struct Failure {
  int code;
  std::string text;
};

Arguments read_case(const char* path) {
  std::ifstream file(path, std::ios::binary);
  Arguments arguments;
  std::string line, name;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string role;
    words >> role >> name;
    if (role == "integer") {
      words >> arguments.integers[name];
    } else if (role == "real") {
      words >> arguments.reals[name];
    } else {
      size_t bytes = 0;
      words >> bytes;
      Argument& argument = arguments.buffers[name];
      argument.role = role;
      argument.initial.resize(bytes);
      if (role != "out") file.read(argument.initial.data(), bytes);
    }
  }
  return arguments;
}

// Under a sanitizer a buffer is an allocation of its own; without one, guards lie around it.
char* new_buffer(size_t bytes) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, bytes ? bytes : 1)) abort();
  return static_cast<char*>(memory);
#else
  char* memory = static_cast<char*>(aligned_alloc(64, (bytes + 2 * kGuardBytes + 63) / 64 * 64));
  std::memset(memory, kGuard, bytes + 2 * kGuardBytes);
  return memory + kGuardBytes;
#endif
}

void free_buffer(const std::string& name, char* memory, [[maybe_unused]] size_t bytes) {
  (void)name;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  free(memory);
#else
  for (size_t i = 0; i < kGuardBytes; ++i) {
    const auto before = static_cast<unsigned char>(memory[-1 - static_cast<ptrdiff_t>(i)]);
    const auto behind = static_cast<unsigned char>(memory[bytes + i]);
    if (before != kGuard) throw Failure{4, "OVERRUN: written before " + name};
    if (behind != kGuard) throw Failure{4, "OVERRUN: written behind the end of " + name};
  }
  free(memory - kGuardBytes);
#endif
}

void set_schedule(const std::string& text) {
  const size_t colon = text.find(':');
  options.policy = static_cast<Policy>(std::atoi(text.substr(0, colon).c_str()));
  options.seed = std::strtoull(text.substr(colon + 1).c_str(), nullptr, 10);
}

// Runs once and returns what the buffers hold then.
std::map<std::string, std::vector<char>> run_once(Entry entry, Arguments& arguments) {
  for (auto& [name, argument] : arguments.buffers) {
    const size_t bytes = argument.initial.size();
    argument.memory = new_buffer(bytes);
    if (argument.role == "out") {
      std::memset(argument.memory, 0xFF, bytes);  // NaN: what is not written shows
    } else if (bytes) {
      std::memcpy(argument.memory, argument.initial.data(), bytes);
    }
  }
  entry(arguments);
  std::map<std::string, std::vector<char>> left;
  for (auto& [name, argument] : arguments.buffers) {
    const size_t bytes = argument.initial.size();
    left[name].assign(argument.memory, argument.memory + bytes);
    if (argument.role == "in" && left[name] != argument.initial) {
      throw Failure{6, "CHANGED: the kernel wrote to its input " + name};
    }
    free_buffer(name, argument.memory, bytes);
  }
  return left;
}

void run(int count, char** words) {
  const auto entry = entries().find(words[1]);
  if (entry == entries().end()) throw Failure{2, std::string("no entry ") + words[1]};
  Arguments arguments = read_case(words[2]);
  std::map<std::string, std::vector<char>> first;
  for (int i = 4; i < count; ++i) {
    set_schedule(words[i]);
    auto left = run_once(entry->second, arguments);
    if (i == 4) first = std::move(left);
    if (i == 4) continue;
    for (const auto& [name, bytes] : first) {
      if (left[name] == bytes) continue;
      throw Failure{5, "SCHEDULES DISAGREE: " + name + " under " + words[4] + " and " + words[i]};
    }
  }
  std::ofstream result(words[3], std::ios::binary);
  for (const auto& [name, bytes] : first) {
    if (arguments.buffers[name].role == "in") continue;
    result << name << ' ' << bytes.size() << '\n';
    result.write(bytes.data(), bytes.size());
  }
}

}  // namespace

bool add_entry(const char* name, Entry entry) { return entries()[name] = entry, true; }

}  // namespace emulator

int main(int count, char** words) {
  if (count < 5) return std::fprintf(stderr, "driver ENTRY CASE RESULT POLICY:SEED ...\n"), 2;
  try {
    emulator::run(count, words);
  } catch (const emulator::Failure& failure) {
    return std::fprintf(stderr, "%s\n", failure.text.c_str()), failure.code;
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "%s\n", error.what()), 3;
  }
  const auto& s = emulator::statistics;
  std::printf(
      "launches %lu blocks %lu threads %lu barriers %lu warp_operations %lu switches %lu "
      "most_shared_bytes %lu\n",
      s.launches, s.blocks, s.threads, s.barriers, s.warp_operations, s.switches,
      s.most_shared_bytes);
}
