// usvs._C: says what was built. The ops are registered when this library is loaded.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "cpu/simd_level.h"

namespace py = pybind11;
namespace cpu = usvs::cpu;

namespace {

std::vector<std::string> names(const std::vector<cpu::SimdLevel>& levels) {
  std::vector<std::string> result;
  for (cpu::SimdLevel level : levels) result.push_back(cpu::to_string(level));
  return result;
}

std::vector<std::string> cuda_architectures() {
  std::vector<std::string> result;
  std::string word;
  for (char letter : std::string(USVS_CUDA_ARCHITECTURES ",")) {
    if (letter != ',') {
      word += letter;
    } else if (!word.empty()) {
      result.push_back(std::exchange(word, ""));
    }
  }
  return result;
}

py::dict build_info() {
  py::dict info;
  info["simd_compiled"] = names(cpu::compiled_simd_levels());
  info["simd_usable"] = names(cpu::usable_simd_levels());
  info["simd"] = cpu::to_string(cpu::simd_level_in_use());
  info["cuda_architectures"] = cuda_architectures();
  info["compiler"] = USVS_COMPILER;
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "What was built into usvs; importing it registers torch.ops.usvs.";
  module.def("build_info", &build_info, "What was built, as a dictionary.");
  module.def(
      "use_simd",
      [](const std::string& name) { cpu::use_simd_level(cpu::simd_level_from_string(name)); },
      py::arg("level"), "Run the CPU kernels at another SIMD level; for tests and measurements.");
}
