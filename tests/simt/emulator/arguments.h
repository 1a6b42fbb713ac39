// What a test hands to an entry: named buffers and numbers. tests/simt/emulate.py writes them.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime.h"

namespace emulator {

struct Argument {
  std::string role;           // in, inout, out
  std::vector<char> initial;  // as the test gave it; for `out` only its size counts
  char* memory = nullptr;     // of exactly that size, so that AddressSanitizer knows the ends
};

class Arguments {
 public:
  template <typename T>
  T* buffer(const std::string& name) const {
    const auto at = buffers.find(name);
    return at == buffers.end() ? nullptr : reinterpret_cast<T*>(at->second.memory);
  }
  int64_t integer(const std::string& name) const { return number(integers, name); }
  double real(const std::string& name) const { return number(reals, name); }

  std::map<std::string, Argument> buffers;
  std::map<std::string, int64_t> integers;
  std::map<std::string, double> reals;

 private:
  template <typename T>
  static T number(const std::map<std::string, T>& numbers, const std::string& name) {
    const auto at = numbers.find(name);
    if (at == numbers.end()) throw Error("the case lacks " + name);
    return at->second;
  }
};

using Entry = void (*)(const Arguments& arguments);
bool add_entry(const char* name, Entry entry);

}  // namespace emulator

// Defines what runs when a test names it: reads its arguments, calls a launcher.
#define EMULATOR_ENTRY(name)                                                                    \
  static void entry_##name(const ::emulator::Arguments& arguments);                             \
  [[maybe_unused]] static const bool added_##name = ::emulator::add_entry(#name, entry_##name); \
  static void entry_##name(const ::emulator::Arguments& arguments)
