// usvs._C: says what was built. The ops are registered when this library is loaded.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "contrastive_loss.h"
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

py::dict contrastive_loss_workspace_bytes(int64_t rows, int64_t columns, int64_t width,
                                          const std::string& dtype) {
  using usvs::cuda::Pass;
  auto bytes = [&](Pass pass) {
    using usvs::cuda::contrastive_loss_workspace_bytes;
    if (dtype == "float32") {
      return contrastive_loss_workspace_bytes<float>(pass, rows, columns, width);
    }
    if (dtype == "bfloat16") {
      return contrastive_loss_workspace_bytes<usvs::BFloat16>(pass, rows, columns, width);
    }
    throw std::invalid_argument("dtype: expected float32 or bfloat16, got '" + dtype + "'");
  };
  py::dict result;
  result["forward"] = bytes(Pass::forward);
  result["backward"] = bytes(Pass::backward);
  return result;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "What was built into usvs; importing it registers torch.ops.usvs.";
  module.def("build_info", &build_info, "What was built, as a dictionary.");
  module.def("contrastive_loss_workspace_bytes", &contrastive_loss_workspace_bytes, py::arg("rows"),
             py::arg("columns"), py::arg("width"), py::arg("dtype"),
             "Bytes of CUDA memory that the passes take beside their tensors.");
  module.def(
      "use_simd",
      [](const std::string& name) { cpu::use_simd_level(cpu::simd_level_from_string(name)); },
      py::arg("level"), "Run the CPU kernels at another SIMD level; for tests and measurements.");
}
