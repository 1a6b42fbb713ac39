// augment_frames at one SIMD level; this file is compiled once for each level.
#include "cpu/augment_frames_simd.h"

#include "cpu/scratch_allocator.h"
#include "cpu/simd.h"

namespace usvs::cpu::USVS_LEVEL {
namespace {

// For each pixel of the result along one axis: the index of the first of the two pixels that it is
// interpolated from, and their weights (integers).
struct Taps {
  int32_t* index;
  float* before;  // weight of the pixel at `index`
  float* after;   // weight of the next pixel
};

struct Scratch {
  Taps rows, columns;
  float* level;  // [halved side, halved side] sums of 4^halvings pixels
  float* blend;  // [halved side + 1 + two vectors] a row interpolated between two
};

Taps allocate_taps(int64_t pixels, ScratchAllocator& allocator) {
  return {allocator.allocate<int32_t>(pixels), allocator.allocate<float>(pixels),
          allocator.allocate<float>(pixels)};
}

Scratch allocate_scratch(const AugmentFramesParams& params, ScratchAllocator& allocator) {
  const int64_t side = params.halved_side();
  return {allocate_taps(params.pixels, allocator), allocate_taps(params.pixels, allocator),
          allocator.allocate<float>(side * side),
          allocator.allocate<float>(side + 1 + 2 * kLanes<float>)};
}

size_t bytes(const AugmentFramesParams& params) {
  ScratchAllocator allocator(nullptr);
  allocate_scratch(params, allocator);
  return allocator.bytes();
}

void fill_taps(const AugmentFramesParams& params, int64_t corner, bool flip, const Taps& taps) {
  const int64_t bits = 8 - params.halvings, one = int64_t{1} << bits;
  const int64_t first = (corner << (bits - params.halvings)) - one / 2;
  const int64_t last = (params.halved_side() - 1) * one;
  for (int64_t x = 0; x < params.pixels; ++x) {
    int64_t at = first + params.step * (2 * x + 1);
    at = at < 0 ? 0 : at > last ? last : at;
    const int64_t target = flip ? params.pixels - 1 - x : x;
    taps.index[target] = static_cast<int32_t>(at >> bits);
    taps.after[target] = static_cast<float>(at & (one - 1));
    taps.before[target] = static_cast<float>(one - (at & (one - 1)));
  }
}

// Computes rows row_begin ... row_end - 1 of the halved frame.
void halve(const AugmentFramesParams& params, const uint8_t* frame, int64_t row_begin,
           int64_t row_end, float* __restrict__ level) {
  const int64_t side = params.halved_side(), block = int64_t{1} << params.halvings;
  for (int64_t y = row_begin; y < row_end; ++y) {
    float* to = level + y * side;
    const uint8_t* from = frame + y * block * params.side;
    if (block == 1) {
      for (int64_t x = 0; x < side; ++x) to[x] = static_cast<float>(from[x]);
      continue;
    }
    for (int64_t x = 0; x < side; ++x) {
      int32_t sum = 0;
      for (int64_t v = 0; v < block; ++v) {
        for (int64_t u = 0; u < block; ++u) sum += from[v * params.side + x * block + u];
      }
      to[x] = static_cast<float>(sum);
    }
  }
}

void blend_rows(const float* upper, const float* lower, float before, float after, int64_t side,
                float* __restrict__ blend) {
  for (int64_t x = 0; x < side; ++x) blend[x] = before * upper[x] + after * lower[x];
  blend[side] = 0;  // read with weight 0
}

USVS_INLINE IntVector<float> load_integers(const int32_t* from) {
  IntVector<float> value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

USVS_INLINE float standardised(float level, float slope, float ceiling, float offset) {
  const float amplified = level * slope;
  return (amplified > ceiling ? ceiling : amplified) - offset;
}

// Computes one row of the result. The source pixels of a vector are in two vectors of the blended
// row and are selected in registers; if they are further apart, they are read one by one.
void write_row(const Taps& columns, const float* blend, float slope, float ceiling, float offset,
               int64_t pixels, float* __restrict__ output) {
  constexpr int64_t lanes = kLanes<float>;
  const int32_t* index = columns.index;
  const float *before = columns.before, *after = columns.after;
  int64_t x = 0;
  for (; kVectorBytes >= 32 && x + lanes <= pixels; x += lanes) {
    const int32_t left = index[x], right = index[x + lanes - 1];  // left > right if mirrored
    const int32_t first = left < right ? left : right, reach = left + right - 2 * first;
    if (reach >= 2 * lanes) break;
    const auto lookup = load_integers(index + x) - first;
    const float* from = blend + first;
    const auto here = __builtin_shuffle(load(from), load(from + lanes), lookup);
    const auto next = __builtin_shuffle(load(from + 1), load(from + 1 + lanes), lookup);
    const Vector<float> level = (load(before + x) * here + load(after + x) * next) * slope;
    store(output + x, (level > ceiling ? ceiling + Vector<float>{} : level) - offset);
  }
  for (; x < pixels; ++x) {
    const float level = before[x] * blend[index[x]] + after[x] * blend[index[x] + 1];
    output[x] = standardised(level, slope, ceiling, offset);
  }
}

void augment(const AugmentFramesParams& params, int64_t frame, void* memory) {
  ScratchAllocator allocator(memory);
  const Scratch scratch = allocate_scratch(params, allocator);
  const int64_t side = params.halved_side(), pixels = params.pixels;
  fill_taps(params, params.corner[2 * frame], false, scratch.rows);
  fill_taps(params, params.corner[2 * frame + 1], params.flip[frame], scratch.columns);
  const int64_t after_last = scratch.rows.index[pixels - 1] + 2;
  halve(params, params.frames + frame * params.side * params.side, scratch.rows.index[0],
        after_last < side ? after_last : side, scratch.level);
  // The weights sum to 4^(8 - halvings), and a halved pixel is a sum of 4^halvings pixels: together
  // 2^16.
  const float slope = params.slope[frame] * 0x1p-16f, ceiling = params.ceiling;
  // As of torch.clamp: a ceiling that is NaN gives NaN.
  const float offset = ceiling == ceiling ? params.offset : ceiling;
  for (int64_t y = 0; y < pixels; ++y) {
    const int64_t index = scratch.rows.index[y];
    const float* upper = scratch.level + index * side;
    const float* lower = index + 1 < side ? upper + side : upper;
    blend_rows(upper, lower, scratch.rows.before[y], scratch.rows.after[y], side, scratch.blend);
    write_row(scratch.columns, scratch.blend, slope, ceiling, offset, pixels,
              params.output + (frame * pixels + y) * pixels);
  }
}

}  // namespace

const AugmentFramesLevel augment_level{bytes, augment};

}  // namespace usvs::cpu::USVS_LEVEL
