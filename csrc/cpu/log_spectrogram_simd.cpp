// The log-spectrogram at one SIMD level; this file is compiled once for each level.
#include "cpu/log_spectrogram_simd.h"

#include "cpu/spectrogram_bands.h"
#include "cpu/spectrogram_gradient.h"

namespace usvs::cpu::USVS_LEVEL {
namespace {

template <typename Real>
size_t forward_bytes(const LogSpectrogramInputs<Real>& params, const SpectrogramPlan<Real>& plan) {
  ScratchAllocator allocator(nullptr);
  allocate_scratch(params, plan, allocator);
  return allocator.bytes();
}

// Prefetches what the next clip needs, a little after every transform: the lines of its samples,
// and one of every page of its result, so that the page's address is known when it is written.
class NextClip {
 public:
  template <typename Real>
  NextClip(const LogSpectrogramForwardParams<Real>& params, int64_t clip, int64_t pauses) {
    if (clip + 1 >= params.clips) return;
    const int64_t result =
        params.bands() * params.frames * (params.bfloat16_output ? sizeof(BFloat16) : sizeof(Real));
    samples_ = {params.clip(clip + 1), params.samples * int64_t{sizeof(Real)}, 64, pauses};
    result_ = {static_cast<const char*>(params.output) + (clip + 1) * result, result, 4096, pauses};
  }
  USVS_INLINE void prefetch() {
    samples_.for_some([](const char* at) USVS_INLINE_LAMBDA { __builtin_prefetch(at, 0, 2); });
    result_.for_some([](const char* at) USVS_INLINE_LAMBDA { __builtin_prefetch(at, 0, 3); });
  }

 private:
  // Memory in pieces of `step` bytes, divided among `pauses`.
  class Pieces {
   public:
    Pieces() = default;
    Pieces(const void* memory, int64_t bytes, int64_t step, int64_t pauses)
        : at_(static_cast<const char*>(memory)),
          end_(at_ + bytes),
          step_(step),
          count_(bytes / step / (pauses > 0 ? pauses : 1) + 1) {}
    template <typename Function>
    USVS_INLINE void for_some(const Function& function) {
      for (int64_t i = 0; i < count_ && at_ < end_; ++i, at_ += step_) function(at_);
    }

   private:
    const char *at_ = nullptr, *end_ = nullptr;
    int64_t step_ = 0, count_ = 0;
  };
  Pieces samples_, result_;
};

// A struct, not a lambda: a lambda would be a new type for every type of result, each with its own
// copy of the transforms.
template <typename Real>
struct StorePower {
  Real* power;  // [bands, lanes], eps included
  Real eps;
  NextClip& next;
  USVS_INLINE void operator()(int64_t band, Complex<Vector<Real>> x) const {
    store(power + band * kLanes<Real>, x.re * x.re + (x.im * x.im + eps));
  }
  USVS_INLINE void pause() const { next.prefetch(); }
};

template <typename Real, typename Output>
void forward_into(const LogSpectrogramForwardParams<Real>& params,
                  const SpectrogramPlan<Real>& plan, int64_t clip, int64_t tile_index,
                  bool streaming, void* memory) {
  const SpectrogramTile& tile = plan.tiles[tile_index];
  ScratchAllocator allocator(memory);
  const SpectrogramScratch<Real> scratch = allocate_scratch(params, plan, allocator);
  TileWriter<Real, Output> writer(params, plan, tile, clip, streaming, scratch);
  const int64_t steps = (tile.frames + kLanes<Real> - 1) / kLanes<Real>;
  NextClip next(params, clip, steps * (plan.first_stage / 2 - 1));
  for_each_step(params, plan, tile, params.clip(clip), scratch, [&](int64_t t) {
    transform_frames(plan, scratch.blocks + t, scratch.stage,
                     StorePower<Real>{writer.power(), Real(params.eps), next});
    writer.write_step();
  });
}

// Computes one tile of one clip.
template <typename Real>
void forward(const LogSpectrogramForwardParams<Real>& params, const SpectrogramPlan<Real>& plan,
             int64_t clip, int64_t tile, bool streaming, void* memory) {
  if constexpr (std::is_same_v<Real, float>) {
    if (params.bfloat16_output) {
      return forward_into<Real, BFloat16>(params, plan, clip, tile, streaming, memory);
    }
  }
  forward_into<Real, Real>(params, plan, clip, tile, streaming, memory);
}

}  // namespace

const LogSpectrogramLevel<float> spectrogram_float{
    kLanes<float>, forward_bytes<float>, backward_bytes<float>, forward<float>, backward<float>};
#ifdef USVS_DOUBLE_SPECTROGRAM
const LogSpectrogramLevel<double> spectrogram_double{kLanes<double>, forward_bytes<double>,
                                                     backward_bytes<double>, forward<double>,
                                                     backward<double>};
#endif

}  // namespace usvs::cpu::USVS_LEVEL
