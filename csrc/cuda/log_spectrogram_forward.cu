#include "cuda/spectrogram_launch.h"
#include "kernels/log_spectrogram_forward.cuh"

namespace usvs::cuda {
namespace {

constexpr int64_t kMaxTileColumns = 256;

// Columns of a tile: as many as the frames in shared memory allow, since neighbouring columns use
// the same frames.
ColumnTiles column_tiles(const LogSpectrogramForwardParams<float>& params, int slots) {
  const int64_t frames = params.transform_frames();
  const int64_t contiguous_columns = (slots - 2) * params.frames / frames + 1;
  ColumnTiles tiles{};
  tiles.separate_slots = contiguous_columns < slots / 2;
  const int64_t columns =
      std::min(tiles.separate_slots ? slots / 2 : contiguous_columns, kMaxTileColumns);
  tiles.columns = static_cast<int>(columns >= 64 ? columns / 32 * 32 : columns / 4 * 4);
  tiles.tiles_per_clip = static_cast<unsigned>((params.frames + tiles.columns - 1) / tiles.columns);
  const size_t group_bytes = 4 * (params.bfloat16_output ? sizeof(simt::bf16) : sizeof(float));
  tiles.vector_stores =
      params.frames % 4 == 0 && reinterpret_cast<uintptr_t>(params.output) % group_bytes == 0;
  return tiles;
}

}  // namespace

void log_spectrogram_forward(const LogSpectrogramForwardParams<float>& params,
                             const Stream& stream) {
  constexpr const char* name = "log_spectrogram_forward";
  with_n_fft(params.n_fft, [&](auto n_fft) {
    using Plan = ForwardPlan<n_fft.value>;
    const ColumnTiles tiles = column_tiles(params, Plan::slots);
    const unsigned blocks = grid_blocks(name, params.clips, tiles.tiles_per_clip);
    if (blocks == 0) return;
    simt::launch(name, log_spectrogram_forward_kernel<n_fft.value>, blocks, kSpectrogramThreads,
                 Plan::shared_bytes(static_cast<int>(params.win_length)), stream,
                 spectrogram_shape(params), tiles, params.output, params.bfloat16_output);
  });
}

}  // namespace usvs::cuda
