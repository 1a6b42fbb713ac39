// Batch norm of one group of pixels at one SIMD level; this file is compiled once for each level.
#include "cpu/batch_norm_rows.h"

namespace usvs::cpu::USVS_LEVEL {
namespace {

constexpr int64_t kChunkRows = 64;  // wide rows that are summed before they are added as float64

// The ReLU's gradient; a NaN is passed on, as torch does.
template <typename V>
USVS_INLINE V where_active(V output, V grad) {
  return output <= V{} ? V{} : grad;
}

template <typename Element>
void moments_of(const NormGroup& group, const Element* maps, double* mean, double* squares,
                void* scratch) {
  using Real = RealOf<Element>;
  Rows<Element> rows(group, scratch);
  Real* shift = rows.zeros();
  Real* sum = rows.zeros();
  Real* square = rows.zeros();
  const int64_t channels = group.channels, chunk = kChunkRows * rows.width;
  for (int64_t c = 0; c < channels; ++c) mean[c] = squares[c] = 0;
  double counted = 0;
  for (int64_t begin = 0; begin < rows.elements; begin += chunk) {
    const int64_t end = begin + chunk < rows.elements ? begin + chunk : rows.elements;
    // Deviations from the chunk's first pixel: its own squared deviation from the mean is among
    // the squares, so that their difference loses at most a factor of the chunk's length.
    for (int64_t i = 0; i < rows.width; ++i) {
      shift[i] = i < channels ? static_cast<Real>(widen(maps[begin + i])) : shift[i - channels];
    }
    fill_zero(sum, rows.width);
    fill_zero(square, rows.width);
    rows.visit(begin, end, [&](int64_t j, auto&& each) USVS_INLINE_LAMBDA {
      const auto about = load(shift + j);
      auto s = load(sum + j), q = load(square + j);
      each([&](int64_t k, int64_t valid) USVS_INLINE_LAMBDA {
        auto away = load_valid(maps + k, valid) - about;
        if (valid < kWidth<Element>) {  // the lanes beyond the end do not count
          Real lanes[kWidth<Element>];
          store(lanes, away);
          for (int64_t i = valid; i < kWidth<Element>; ++i) lanes[i] = 0;
          away = load(lanes);
        }
        s += away;
        q += away * away;
      });
      store(sum + j, s);
      store(square + j, q);
    });
    const double count = static_cast<double>((end - begin) / channels);
    for (int64_t i = channels; i < rows.width; i += channels) {
      for (int64_t c = 0; c < channels; ++c) {
        sum[c] += sum[i + c];
        square[c] += square[i + c];
      }
    }
    const double total = counted + count, share = count / total, cross = counted * share;
    for (int64_t c = 0; c < channels; ++c) {  // Chan, Golub and LeVeque, 1979
      const double away = sum[c] / count, difference = shift[c] + away - mean[c];
      squares[c] += square[c] - sum[c] * away + difference * difference * cross;
      mean[c] += difference * share;
    }
    counted = total;
  }
}

template <typename Element>
void apply_to(const NormGroup& group, const Element* maps, const Element* residual, Element* output,
              const double* scale, const double* offset, bool relu, void* scratch) {
  Rows<Element> rows(group, scratch);
  const auto* scales = rows.repeat(scale);
  const auto* offsets = rows.repeat(offset);
  auto run = [&](auto with_residual, auto with_relu) USVS_INLINE_LAMBDA {
    rows.visit(0, rows.elements, [&](int64_t j, auto&& each) USVS_INLINE_LAMBDA {
      const auto a = load(scales + j), b = load(offsets + j);
      each([&](int64_t k, int64_t valid) USVS_INLINE_LAMBDA {
        Wide<Element> value = load_valid(maps + k, valid) * a + b;
        if constexpr (decltype(with_residual)::value) value += load_valid(residual + k, valid);
        if constexpr (decltype(with_relu)::value)
          value = larger<RealOf<Element>>(Wide<Element>{}, value);
        store_valid(output + k, value, valid);
      });
    });
  };
  if (residual && relu) {
    run(std::true_type{}, std::true_type{});
  } else if (residual) {
    run(std::true_type{}, std::false_type{});
  } else if (relu) {
    run(std::false_type{}, std::true_type{});
  } else {
    run(std::false_type{}, std::false_type{});
  }
}

enum class Mask { none, recomputed, of_output };

template <typename Element>
void sums_of(const NormGroup& group, const Element* grad, const Element* maps,
             const Element* output, Element* masked, const double* scale, const double* offset,
             const double* mean, bool relu, double* sum, double* product, void* scratch) {
  Rows<Element> rows(group, scratch);
  const auto* scales = rows.repeat(scale);
  const auto* offsets = rows.repeat(offset);
  const auto* means = rows.repeat(mean);
  auto* chunk_sum = rows.zeros();
  auto* chunk_product = rows.zeros();
  const int64_t channels = group.channels, chunk = kChunkRows * rows.width;
  for (int64_t c = 0; c < channels; ++c) sum[c] = product[c] = 0;
  auto run = [&](auto mask) USVS_INLINE_LAMBDA {
    constexpr Mask kMask = decltype(mask)::value;
    for (int64_t begin = 0; begin < rows.elements; begin += chunk) {
      const int64_t end = begin + chunk < rows.elements ? begin + chunk : rows.elements;
      rows.visit(begin, end, [&](int64_t j, auto&& each) USVS_INLINE_LAMBDA {
        const auto a = load(scales + j), b = load(offsets + j), m = load(means + j);
        auto s = load(chunk_sum + j), p = load(chunk_product + j);
        each([&](int64_t k, int64_t valid) USVS_INLINE_LAMBDA {
          Wide<Element> slope = load_valid(grad + k, valid);  // 0 beyond the end
          const Wide<Element> value = load_valid(maps + k, valid);
          if constexpr (kMask == Mask::recomputed) slope = where_active(value * a + b, slope);
          if constexpr (kMask == Mask::of_output) {
            slope = where_active(load_valid(output + k, valid), slope);
            store_valid(masked + k, slope, valid);
          }
          s += slope;
          p += slope * (value - m);
        });
        store(chunk_sum + j, s);
        store(chunk_product + j, p);
      });
      for (int64_t i = 0; i < rows.width; i += channels) {
        for (int64_t c = 0; c < channels; ++c) {
          sum[c] += chunk_sum[i + c];
          product[c] += chunk_product[i + c];
        }
      }
      fill_zero(chunk_sum, rows.width);
      fill_zero(chunk_product, rows.width);
    }
  };
  if (masked) {
    run(std::integral_constant<Mask, Mask::of_output>{});
  } else if (relu) {
    run(std::integral_constant<Mask, Mask::recomputed>{});
  } else {
    run(std::integral_constant<Mask, Mask::none>{});
  }
}

template <typename Element>
void gradient_of(const NormGroup& group, const Element* grad, const Element* maps,
                 Element* maps_grad, const double* scale, const double* offset, bool relu,
                 const double* factor, const double* slope, const double* constant, void* scratch) {
  Rows<Element> rows(group, scratch);
  const auto* scales = rows.repeat(scale);
  const auto* offsets = rows.repeat(offset);
  const auto* factors = rows.repeat(factor);
  const auto* slopes = rows.repeat(slope);
  const auto* constants = rows.repeat(constant);
  auto run = [&](auto with_relu) USVS_INLINE_LAMBDA {
    rows.visit(0, rows.elements, [&](int64_t j, auto&& each) USVS_INLINE_LAMBDA {
      const auto a = load(scales + j), b = load(offsets + j);
      const auto f = load(factors + j), l = load(slopes + j), o = load(constants + j);
      each([&](int64_t k, int64_t valid) USVS_INLINE_LAMBDA {
        Wide<Element> passed = load_valid(grad + k, valid);
        const Wide<Element> value = load_valid(maps + k, valid);
        if constexpr (decltype(with_relu)::value) passed = where_active(value * a + b, passed);
        store_valid(maps_grad + k, passed * f + (value * l + o), valid);
      });
    });
  };
  if (relu) {
    run(std::true_type{});
  } else {
    run(std::false_type{});
  }
}

// Calls function with a null pointer to the element type.
template <typename Function>
void with_element(MapType type, const Function& function) {
  switch (type) {
    case MapType::float32:
      return function(static_cast<float*>(nullptr));
    case MapType::bfloat16:
      return function(static_cast<BFloat16*>(nullptr));
    case MapType::float64:
      return function(static_cast<double*>(nullptr));
  }
}

size_t bytes(const NormGroup& group) {
  size_t needed = 0;
  with_element(group.type, [&](auto* element) {
    needed = bytes_of<std::remove_pointer_t<decltype(element)>>(group);
  });
  return needed;
}

void moments(const NormGroup& group, const void* maps, double* mean, double* squares,
             void* scratch) {
  with_element(group.type, [&](auto* element) {
    using Element = std::remove_pointer_t<decltype(element)>;
    moments_of(group, static_cast<const Element*>(maps), mean, squares, scratch);
  });
}

void apply(const NormGroup& group, const void* maps, const void* residual, void* output,
           const double* scale, const double* offset, bool relu, void* scratch) {
  with_element(group.type, [&](auto* element) {
    using Element = std::remove_pointer_t<decltype(element)>;
    apply_to(group, static_cast<const Element*>(maps), static_cast<const Element*>(residual),
             static_cast<Element*>(output), scale, offset, relu, scratch);
  });
}

void sums(const NormGroup& group, const void* grad, const void* maps, const void* output,
          void* masked, const double* scale, const double* offset, const double* mean, bool relu,
          double* sum, double* product, void* scratch) {
  with_element(group.type, [&](auto* element) {
    using Element = std::remove_pointer_t<decltype(element)>;
    sums_of(group, static_cast<const Element*>(grad), static_cast<const Element*>(maps),
            static_cast<const Element*>(output), static_cast<Element*>(masked), scale, offset, mean,
            relu, sum, product, scratch);
  });
}

void gradient(const NormGroup& group, const void* grad, const void* maps, void* maps_grad,
              const double* scale, const double* offset, bool relu, const double* factor,
              const double* slope, const double* constant, void* scratch) {
  with_element(group.type, [&](auto* element) {
    using Element = std::remove_pointer_t<decltype(element)>;
    gradient_of(group, static_cast<const Element*>(grad), static_cast<const Element*>(maps),
                static_cast<Element*>(maps_grad), scale, offset, relu, factor, slope, constant,
                scratch);
  });
}

}  // namespace

extern const BatchNormLevel batch_norm_level{bytes, moments, apply, sums, gradient};

}  // namespace usvs::cpu::USVS_LEVEL
