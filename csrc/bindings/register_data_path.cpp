// The ops of the data path (frames and voice activity), on the CPU only.
#include <sys/mman.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "augment_frames.h"
#include "bindings/checks.h"
#include "bindings/torch_threads.h"
#include "energy_threshold.h"
#include "frame_energy.h"

namespace usvs {
namespace {

using torch::stable::contiguous;
using torch::stable::new_empty;

constexpr size_t kHugePage = 2 << 20;

// Freshly allocated memory for a batch of frames: page faults of small pages would take longer than
// filling it.
void advise_huge_pages(void* memory, size_t bytes) {
  const auto begin = (reinterpret_cast<uintptr_t>(memory) + kHugePage - 1) / kHugePage * kHugePage;
  const auto end = (reinterpret_cast<uintptr_t>(memory) + bytes) / kHugePage * kHugePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

void check_column(const char* name, const Tensor& tensor, int64_t rows) {
  if (tensor.dim() != 1 || tensor.size(0) != rows) {
    throw_argument_error("augment_frames", name, "shape [" + std::to_string(rows) + "]",
                         shape_text(tensor));
  }
}

void check_frames(const Tensor& frames, const Tensor& corner, const Tensor& flip,
                  const Tensor& slope) {
  constexpr const char* op = "augment_frames";
  if (frames.dim() != 3 || frames.size(1) != frames.size(2) || frames.size(1) < 1) {
    throw_argument_error(op, "frames", "shape [n, S, S]", shape_text(frames));
  }
  check_dtype(op, "frames", frames, ScalarType::Byte);
  check_shape(op, "corner", corner, frames.size(0), 2);
  check_dtype(op, "corner", corner, ScalarType::Long);
  check_column("flip", flip, frames.size(0));
  check_dtype(op, "flip", flip, ScalarType::Bool);
  check_column("slope", slope, frames.size(0));
  check_dtype(op, "slope", slope, ScalarType::Float);
}

Tensor augment_frames(Tensor frames, Tensor corner, Tensor flip, Tensor slope, int64_t pixels,
                      int64_t step, int64_t halvings, double ceiling, double offset) {
  constexpr const char* op = "augment_frames";
  check_frames(frames, corner, flip, slope);
  check_range(op, "pixels", pixels, 1, 1 << 15);
  check_range(op, "halvings", halvings, 0, kMaxHalvings);
  check_range(op, "step", step, 1, 1 << 20);
  check_range(op, "side of frames", frames.size(1), int64_t{1} << halvings, 1 << 15);
  frames = contiguous(frames);
  corner = contiguous(corner);
  flip = contiguous(flip);
  slope = contiguous(slope);
  AugmentFramesParams params{};
  params.frames = static_cast<const uint8_t*>(frames.const_data_ptr());
  params.corner = static_cast<const int64_t*>(corner.const_data_ptr());
  params.flip = static_cast<const bool*>(flip.const_data_ptr());
  params.slope = static_cast<const float*>(slope.const_data_ptr());
  params.count = frames.size(0);
  params.side = frames.size(1);
  params.pixels = pixels;
  params.step = step;
  params.halvings = halvings;
  params.ceiling = static_cast<float>(ceiling);
  params.offset = static_cast<float>(offset);
  for (int64_t i = 0; i < 2 * params.count; ++i) {
    check_range(op, "corner", params.corner[i], 0, params.side - 1);
  }
  Tensor output = new_empty(slope, {params.count, 1, pixels, pixels});
  params.output = static_cast<float*>(output.mutable_data_ptr());
  advise_huge_pages(params.output, params.count * pixels * pixels * sizeof(float));
  cpu::augment_frames(params);
  return output;
}

Tensor frame_energy(Tensor waveform, int64_t length, double high_pass) {
  constexpr const char* op = "frame_energy";
  check_shape(op, "waveform", waveform, -1, -1);
  check_dtype(op, "waveform", waveform, ScalarType::Float);
  check_range(op, "length", length, 1, 1 << 30);
  if (!(high_pass >= 0 && high_pass < 0.5)) {
    throw_argument_error(op, "high_pass", "at least 0 and below 0.5", number_text(high_pass));
  }
  waveform = contiguous(waveform);
  FrameEnergyParams params{};
  params.waveform = static_cast<const float*>(waveform.const_data_ptr());
  params.recordings = waveform.size(0);
  params.samples = waveform.size(1);
  params.length = length;
  params.high_pass = high_pass;
  Tensor output = new_empty(waveform, {params.recordings, params.frames()}, ScalarType::Double);
  params.energy = static_cast<double*>(output.mutable_data_ptr());
  cpu::frame_energy(params, torch_threads);
  return output;
}

Tensor energy_threshold(Tensor energy, double ratio, double silence, double growth,
                        double growth_of_growth, double scaling) {
  constexpr const char* op = "energy_threshold";
  check_shape(op, "energy", energy, -1, -1);
  check_dtype(op, "energy", energy, ScalarType::Double);
  check_positive(op, "ratio", ratio);
  check_positive(op, "silence", silence);
  check_positive(op, "growth", growth);
  check_positive(op, "growth_of_growth", growth_of_growth);
  if (!(scaling <= 1)) throw_argument_error(op, "scaling", "at most 1", number_text(scaling));
  energy = contiguous(energy);
  Tensor output = new_empty(energy, energy.sizes());
  cpu::energy_threshold({static_cast<const double*>(energy.const_data_ptr()),
                         static_cast<double*>(output.mutable_data_ptr()), energy.size(0),
                         energy.size(1), ratio, silence, growth, growth_of_growth, scaling},
                        torch_threads);
  return output;
}

}  // namespace
}  // namespace usvs

STABLE_TORCH_LIBRARY_IMPL(usvs, CPU, library) {
  library.impl("augment_frames", TORCH_BOX(&usvs::augment_frames));
  library.impl("frame_energy", TORCH_BOX(&usvs::frame_energy));
  library.impl("energy_threshold", TORCH_BOX(&usvs::energy_threshold));
}
