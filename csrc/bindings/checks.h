// Argument checks. A message names the op, the argument, what was expected and what was given.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace usvs {

using torch::headeronly::IntHeaderOnlyArrayRef;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

[[noreturn]] inline void throw_argument_error(const char* op, const std::string& argument,
                                              const std::string& expected, const std::string& got) {
  throw std::runtime_error(std::string("usvs::") + op + ": " + argument + ": expected " + expected +
                           ", got " + got);
}

// A string argument of an op, which is freed. torch's own conversion to std::string (2.10 to 2.14)
// never frees its copy: 48 bytes a call, which are spread over the heap for good.
inline std::string take_string(StringHandle handle) {
  size_t length = 0;
  const char* data = nullptr;
  const bool failed = torch_string_length(handle, &length) || torch_string_c_str(handle, &data);
  std::string text = failed ? std::string() : std::string(data, length);
  if (torch_delete_string(handle) || failed) {
    throw std::runtime_error("usvs: torch did not return a string argument");
  }
  return text;
}

inline std::string shape_text(const std::vector<int64_t>& sizes) {
  std::ostringstream text;
  text << "[";
  for (size_t i = 0; i < sizes.size(); ++i) text << (i ? ", " : "") << sizes[i];
  text << "]";
  return text.str();
}

inline std::vector<int64_t> sizes_of(const Tensor& tensor) {
  const IntHeaderOnlyArrayRef sizes = tensor.sizes();
  return {sizes.begin(), sizes.end()};
}

inline std::string shape_text(const Tensor& tensor) { return shape_text(sizes_of(tensor)); }

inline std::string number_text(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

inline void check_shape(const char* op, const char* name, const Tensor& tensor, int64_t rows,
                        int64_t columns) {
  if (tensor.dim() == 2 && (rows < 0 || tensor.size(0) == rows) &&
      (columns < 0 || tensor.size(1) == columns)) {
    return;
  }
  auto side = [](int64_t size, const char* any) { return size < 0 ? any : std::to_string(size); };
  throw_argument_error(op, name, "shape [" + side(rows, "any") + ", " + side(columns, "any") + "]",
                       shape_text(tensor));
}

inline void check_sizes(const char* op, const char* name, const Tensor& tensor,
                        const std::vector<int64_t>& sizes) {
  if (sizes_of(tensor) != sizes) {
    throw_argument_error(op, name, "shape " + shape_text(sizes), shape_text(tensor));
  }
}

inline std::string device_text(const Tensor& tensor) {
  if (tensor.is_cpu()) return "the CPU";
  if (tensor.is_cuda()) return "CUDA device " + std::to_string(tensor.get_device_index());
  return "another kind of device";
}

// Checks that a tensor is on the device of `other`.
inline void check_device(const char* op, const char* name, const Tensor& tensor,
                         const char* other_name, const Tensor& other) {
  if (tensor.device() != other.device()) {
    throw_argument_error(op, name, device_text(other) + ", where " + other_name + " is",
                         device_text(tensor));
  }
}

inline void check_dtype(const char* op, const char* name, const Tensor& tensor, ScalarType dtype) {
  if (tensor.scalar_type() != dtype) {
    throw_argument_error(op, name, torch::headeronly::toString(dtype),
                         torch::headeronly::toString(tensor.scalar_type()));
  }
}

// Makes a tensor contiguous; calls torch's dispatcher only if it has to copy.
inline Tensor as_contiguous(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

// An uninitialised tensor on the device of `like`, without a call of torch's dispatcher.
inline Tensor empty_strided(const Tensor& like, IntHeaderOnlyArrayRef sizes,
                            IntHeaderOnlyArrayRef strides, ScalarType dtype) {
  int32_t device_type, device_index;
  AtenTensorHandle handle;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  using torch::stable::detail::from;
  using torch::stable::detail::to;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(),
                                                  strides.data(), to<int32_t>(from(dtype)),
                                                  device_type, device_index, &handle));
  return Tensor(handle);
}

// The same, contiguous.
inline Tensor empty(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType dtype) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t i = sizes.size(); i-- > 1;)
    strides[i - 1] = strides[i] * std::max<int64_t>(sizes[i], 1);
  return empty_strided(like, sizes, strides, dtype);
}

// An uninitialised tensor with the sizes, strides and dtype of `tensor`.
inline Tensor empty_like_contiguous(const Tensor& tensor) {
  return empty_strided(tensor, tensor.sizes(), tensor.strides(), tensor.scalar_type());
}

// Checks an output tensor: it is not resized and must be contiguous.
inline void check_out(const char* op, const Tensor& out, const std::vector<int64_t>& sizes,
                      ScalarType dtype, const char* other_name, const Tensor& other) {
  check_device(op, "out", out, other_name, other);
  check_sizes(op, "out", out, sizes);
  check_dtype(op, "out", out, dtype);
  if (!out.is_contiguous()) throw_argument_error(op, "out", "a contiguous tensor", "one with gaps");
}

// The addresses [first, second) between which a tensor's elements are.
inline std::pair<uintptr_t, uintptr_t> addresses_of(const Tensor& tensor) {
  int64_t last = 0;
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    if (tensor.size(dim) == 0) return {0, 0};
    last += (tensor.size(dim) - 1) * tensor.stride(dim);
  }
  const auto begin = reinterpret_cast<uintptr_t>(tensor.const_data_ptr());
  int32_t dtype;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(tensor.get(), &dtype));
  return {begin, begin + (last + 1) * aoti_torch_dtype_element_size(dtype)};
}

// Checks that an output tensor is not in the memory of an input, which is read while it is written.
inline void check_no_overlap(const char* op, const Tensor& out, const char* name,
                             const Tensor& input) {
  const auto [begin, end] = addresses_of(out);
  const auto [input_begin, input_end] = addresses_of(input);
  if (begin < input_end && input_begin < end) {
    throw_argument_error(op, "out", std::string("memory that is not that of ") + name,
                         "memory that overlaps it");
  }
}

inline void check_range(const char* op, const char* name, int64_t value, int64_t low,
                        int64_t high) {
  if (value < low || value > high) {
    throw_argument_error(op, name, std::to_string(low) + " ... " + std::to_string(high),
                         std::to_string(value));
  }
}

inline void check_positive(const char* op, const char* name, double value) {
  if (!(value > 0) || std::isinf(value)) {
    throw_argument_error(op, name, "a finite number above 0", number_text(value));
  }
}

}  // namespace usvs
