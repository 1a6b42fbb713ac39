// One-line checks that print op, argument, what was wanted and what came.
#pragma once
#include <torch/csrc/stable/tensor.h>

#include <cmath>
#include <sstream>
#include <stdexcept>
#include <string>

namespace usvs {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

[[noreturn]] inline void refuse(const char* op, const std::string& argument,
                                const std::string& wanted, const std::string& got) {
  throw std::runtime_error(std::string("usvs::") + op + ": " + argument + ": wanted " + wanted +
                           ", got " + got);
}

inline std::string shape_text(const Tensor& tensor) {
  std::ostringstream text;
  text << "[";
  for (int64_t i = 0; i < tensor.dim(); ++i) text << (i ? ", " : "") << tensor.size(i);
  text << "]";
  return text.str();
}

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
  refuse(op, name, "shape [" + side(rows, "any") + ", " + side(columns, "any") + "]",
         shape_text(tensor));
}

inline void check_dtype(const char* op, const char* name, const Tensor& tensor, ScalarType dtype) {
  if (tensor.scalar_type() != dtype) {
    refuse(op, name, torch::headeronly::toString(dtype),
           torch::headeronly::toString(tensor.scalar_type()));
  }
}

inline void check_range(const char* op, const char* name, int64_t value, int64_t low,
                        int64_t high) {
  if (value < low || value > high) {
    refuse(op, name, std::to_string(low) + " ... " + std::to_string(high), std::to_string(value));
  }
}

inline void check_positive(const char* op, const char* name, double value) {
  if (!(value > 0) || std::isinf(value)) {
    refuse(op, name, "a finite number above 0", number_text(value));
  }
}

}  // namespace usvs
