// usvs._C: build information of libusvs_ops.so, for Python. Includes no torch header.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "bindings/library_info.h"

namespace py = pybind11;
namespace library = usvs::library;

namespace {

py::dict build_info() {
  py::dict info;
  info["simd_compiled"] = library::compiled_simd_levels();
  info["simd_usable"] = library::usable_simd_levels();
  info["simd"] = library::simd_level_in_use();
  info["bfloat16_products"] = library::uses_bfloat16_products();
  info["cuda_architectures"] = library::cuda_architectures();
  info["compiler"] = library::compiler();
  return info;
}

py::dict contrastive_loss_workspace_bytes(int64_t rows, int64_t columns, int64_t width,
                                          const std::string& dtype) {
  const auto bytes = library::contrastive_loss_workspace_bytes(rows, columns, width, dtype);
  py::dict result;
  result["forward"] = bytes.forward;
  result["backward"] = bytes.backward;
  return result;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() =
      "Build information of libusvs_ops.so; import torch first, whose libraries it needs.";
  module.def("build_info", &build_info, "What was built, as a dictionary.");
  module.def("contrastive_loss_workspace_bytes", &contrastive_loss_workspace_bytes, py::arg("rows"),
             py::arg("columns"), py::arg("width"), py::arg("dtype"),
             "Bytes of CUDA memory that each pass allocates beside its tensors.");
  module.def("use_simd", &library::use_simd_level, py::arg("level"),
             "Run the CPU kernels at another SIMD level; for tests and measurements.");
}
