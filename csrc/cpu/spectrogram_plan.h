// Tables that depend on the settings of a log-spectrogram and not on its samples: computed once, in
// float64, and cached.
//
// N = R1 * R2. Stage one transforms the R1 samples n2, n2 + R2, n2 + 2 R2 ... for each n2 < R2.
// Stage two, for each k1, multiplies the results by w_N^(k1 n2) and transforms over n2, which gives
// the bins k1 + R1 k2.
#pragma once
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "log_spectrogram.h"

namespace usvs::cpu {

// Columns [column_begin, column_end) of the result are interpolated from frames [frame_begin,
// frame_begin + frames), in steps of `lanes` frames, of which the first is step_begin.
struct SpectrogramTile {
  int64_t column_begin, column_end, frame_begin, frames, step_begin;
};

// What is written when the frames of a step are available: vectors of columns whose frames all
// belong to this step and the previous one, and single columns.
struct SpectrogramStep {
  int64_t vector_begin, vector_end, single_begin, single_end;
};

template <typename Real>
struct SpectrogramPlan {
  using Index = std::conditional_t<sizeof(Real) == 4, int32_t, int64_t>;

  int64_t first_stage;   // R1
  int64_t second_stage;  // R2
  bool half_window;  // the window fills no more than half of N, so half of stage one's inputs are
                     // zero
  int64_t lead;      // samples from the clip's start to the first window's start; negative
  int64_t block;     // samples of each hop that a window can cover: min(hop_length, win_length)
  int64_t
      overlap_hops;  // hops by which a window reaches past its own: (win_length - 1) / hop_length

  // For the samples in the order of stage one, [R2, R1] or, with half_window, [R2, R1 / 2]: their
  // index in the transposed blocks and their weight. Outside the window the weight is 0 and the
  // index that of sample 0.
  std::vector<int32_t> sample_index;
  std::vector<Real> weight_in_window;
  std::vector<Real> twiddles;  // [R1, R2, 2], w_N^(k1 n2)

  // The resize in time. Frames are counted from the tile's first, columns from the result's first.
  int64_t lanes;
  std::vector<SpectrogramTile> tiles;
  std::vector<int32_t> low, high;  // [frames] the two frames of a column
  std::vector<Real> weight;        // [frames] weight of the higher one

  // The same in the order of writing; frames are counted from the first frame of the previous step.
  std::vector<SpectrogramStep> steps;
  std::vector<int64_t> vector_column;            // [vectors] first column of each
  std::vector<Index> vector_low, vector_high;    // [vectors, lanes]
  std::vector<Real> vector_weight;               // [vectors, lanes]
  bool aligned;                                  // all vectors start at multiples of `lanes`
  std::vector<int64_t> single_column;            // [singles]
  std::vector<int32_t> single_low, single_high;  // [singles]

  int64_t max_frames;    // of any tile
  int64_t frame_stride;  // max_frames rounded up to complete vectors
  int64_t block_stride;  // max_frames + overlap_hops rounded up to complete vectors, plus a vector
                         // of zeros
};

template <typename Real>
std::shared_ptr<const SpectrogramPlan<Real>> spectrogram_plan(
    const LogSpectrogramInputs<Real>& params, int64_t lanes);

}  // namespace usvs::cpu
