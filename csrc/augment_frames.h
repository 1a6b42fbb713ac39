// The augment_frames op: crops, mirrors, resizes, amplifies and standardises each frame in one
// pass.
//
//   A frame is halved `halvings` times (means of 2 x 2 pixels), then interpolated linearly:
//
//   side S      |--------------------------------------|
//   crop                 |<- corner
//   step                 .--.--.--.--.--.--.             pixels of the halved frame per pixel of
//   the
//                                                        result, a multiple of 1 / 2^(b - 1)
//   The weights of the two neighbours are multiples of 1 / 2^b, b = 8 - halvings. A value is a sum
//   of 8 + 2 halvings + 2 b = 24 bits, which float32 holds exactly, in any order of additions.
#pragma once
#include <cstdint>

namespace usvs {

constexpr int64_t kMaxHalvings = 4;

struct AugmentFramesParams {
  const uint8_t* frames;  // [n, S, S]
  const int64_t* corner;  // [n, 2] row and column of the crop, pixels of the frame
  const bool* flip;       // [n] mirrored left to right
  const float* slope;     // [n] standardised units per gray level
  float* output;          // [n, P, P] min(slope * level, ceiling) - offset
  int64_t count;          // n
  int64_t side;           // S
  int64_t pixels;         // P
  int64_t step;           // in 1 / 2^(b - 1) pixels of the halved frame
  int64_t halvings;       // 0 ... kMaxHalvings
  float ceiling;          // standardised units above `offset`
  float offset;

  int64_t halved_side() const { return side >> halvings; }
};

namespace cpu {
// Runs on the calling thread: callers process several batches in parallel.
void augment_frames(const AugmentFramesParams& params);
}  // namespace cpu
}  // namespace usvs
