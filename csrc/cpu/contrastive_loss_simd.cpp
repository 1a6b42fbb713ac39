// The contrastive loss at one SIMD level; compiled once for each.
#include "cpu/contrastive_loss_simd.h"

#include "cpu/carver.h"
#include "cpu/matrix_tile.h"
#include "cpu/vector_math.h"

namespace usvs::cpu::USVS_LEVEL {
namespace {

static_assert(kChunkColumns % kPanel<float> == 0 && kChunkColumns % kPanel<double> == 0);

int64_t padded_width_float(int64_t width) { return rounded_up(width, kPanel<float>); }
int64_t padded_width_double(int64_t width) { return rounded_up(width, kPanel<double>); }

template <typename Real>
struct AnchorBlock {
  Real* scaled;  // [rows, width] divided by the temperature: rows of the logits' product
  Real* panels;  // as they are: panels of the candidates' gradient
};

template <typename Real>
AnchorBlock<Real> lay_out_anchors(int64_t width, Carver& carver) {
  return {carver.take<Real>(kBlockRows * width),
          carver.take<Real>(kBlockRows * rounded_up(width, kPanel<Real>))};
}

template <typename Real>
struct ChunkScratch {
  Real* panels;      // candidates of the chunk, panels over the width
  Real* transposed;  // the same, panels over the candidates
  Real* tile;        // [rows, kTileStride] logits, then probabilities
};

template <typename Real>
ChunkScratch<Real> lay_out_chunk(int64_t width, Carver& carver) {
  const int64_t padded = rounded_up(width, kPanel<Real>);
  return {carver.take<Real>(kChunkColumns * padded), carver.take<Real>(kChunkColumns * padded),
          carver.take<Real>(kBlockRows * kTileStride)};
}

template <typename Input, typename Real>
void scale_anchors(const ContrastiveLossParams<Input>& params, int64_t begin, int64_t rows,
                   Real* scaled) {
  const Input* from = params.anchors + begin * params.width;
  const Real scale = Real(1 / params.temperature);
  for (int64_t i = 0; i < rows * params.width; ++i) scaled[i] = widened(from[i]) * scale;
}

// The logits of a block of anchors and a chunk of `count` candidates, in scratch.tile.
template <typename Input, typename Real>
void chunk_logits(const ContrastiveLossParams<Input>& params, const Real* scaled, int64_t rows,
                  int64_t column, int64_t count, const ChunkScratch<Real>& scratch) {
  const int64_t length = rounded_up(count, kPanel<Real>);
  pack_panels(params.candidates + column * params.width, count, params.width, length,
              scratch.panels);
  transpose_panels(scratch.panels, params.width, length, scratch.transposed);
  const int64_t padded = rounded_up(params.width, kPanel<Real>);
  multiply<false>(scaled, params.width, scratch.transposed, padded * kPanel<Real>, rows, count,
                  params.width, scratch.tile, kTileStride, false);
}

// Takes one row of logits, filled up with -inf to whole vectors, into the running maximum and sum.
template <typename Real>
void add_logits(const Real* logits, int64_t count, Real& largest, double& sum) {
  constexpr int64_t lanes = kLanes<Real>;
  Vector<Real> top = broadcast(largest);
  for (int64_t j = 0; j < count; j += lanes) {
    const Vector<Real> value = load(logits + j);
    top = value > top ? value : top;
  }
  Real new_largest = largest;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    new_largest = top[lane] > new_largest ? top[lane] : new_largest;
  }
  Vector<Real> parts{};
  for (int64_t j = 0; j < count; j += lanes) parts += exp(load(logits + j) - new_largest);
  double added = 0;
  for (int64_t lane = 0; lane < lanes; ++lane) added += parts[lane];
  sum = sum * __builtin_exp(static_cast<double>(largest) - new_largest) + added;
  largest = new_largest;
}

template <typename Input>
void forward(const ContrastiveLossParams<Input>& params, ContrastiveBlock block,
             typename Accumulated<Input>::type* largest, double* sum, void* memory) {
  using Real = typename Accumulated<Input>::type;
  Carver carver(memory);
  const AnchorBlock<Real> anchors = lay_out_anchors<Real>(params.width, carver);
  const ChunkScratch<Real> scratch = lay_out_chunk<Real>(params.width, carver);
  scale_anchors(params, block.begin, block.rows, anchors.scaled);
  for (int64_t i = 0; i < block.rows; ++i) {
    largest[i] = std::numeric_limits<Real>::lowest();  // not -inf, which minus itself is NaN
    sum[i] = 0;
  }
  for (int64_t column = block.column_begin; column < block.column_end; column += kChunkColumns) {
    const int64_t left = block.column_end - column;
    const int64_t count = left < kChunkColumns ? left : kChunkColumns;
    chunk_logits(params, anchors.scaled, block.rows, column, count, scratch);
    for (int64_t i = 0; i < block.rows; ++i) {
      Real* logits = scratch.tile + i * kTileStride;
      const int64_t self = params.self_index[block.begin + i] - column;
      if (self >= 0 && self < count) logits[self] = -std::numeric_limits<Real>::infinity();
      for (int64_t j = count; j % kLanes<Real>; ++j) {
        logits[j] = -std::numeric_limits<Real>::infinity();
      }
      add_logits(logits, count, largest[i], sum[i]);
    }
  }
}

template <typename Input>
void pack_anchors(const ContrastiveLossParams<Input>& params, int64_t begin, int64_t rows,
                  void* memory) {
  using Real = typename Accumulated<Input>::type;
  Carver carver(memory);
  const AnchorBlock<Real> anchors = lay_out_anchors<Real>(params.width, carver);
  scale_anchors(params, begin, rows, anchors.scaled);
  pack_panels(params.anchors + begin * params.width, rows, params.width, kBlockRows,
              anchors.panels);
}

// Turns a row of logits into weight * softmax.
template <typename Real>
void weigh_logits(Real* logits, int64_t count, Real logsumexp, Real weight) {
  for (int64_t j = 0; j < count; j += kLanes<Real>) {
    store(logits + j, exp(load(logits + j) - logsumexp) * weight);
  }
}

template <typename Input>
void backward(const ContrastiveLossParams<Input>& params, ContrastiveBlock block,
              const void* packed, typename Accumulated<Input>::type* anchors_part,
              typename Accumulated<Input>::type* candidates_grad, int64_t grad_stride,
              bool accumulate, void* memory) {
  using Real = typename Accumulated<Input>::type;
  const int64_t padded = rounded_up(params.width, kPanel<Real>);
  Carver anchors_carver(const_cast<void*>(packed)), carver(memory);
  const AnchorBlock<Real> anchors = lay_out_anchors<Real>(params.width, anchors_carver);
  const ChunkScratch<Real> scratch = lay_out_chunk<Real>(params.width, carver);
  for (int64_t column = block.column_begin; column < block.column_end; column += kChunkColumns) {
    const int64_t left = block.column_end - column;
    const int64_t count = left < kChunkColumns ? left : kChunkColumns;
    chunk_logits(params, anchors.scaled, block.rows, column, count, scratch);
    for (int64_t i = 0; i < block.rows; ++i) {
      Real* row = scratch.tile + i * kTileStride;
      const int64_t anchor = block.begin + i, self = params.self_index[anchor] - column;
      weigh_logits(row, count, params.logsumexp[anchor],
                   Real(params.losses_grad[anchor] / params.temperature));
      if (self >= 0 && self < count) row[self] = 0;
    }
    multiply<false>(scratch.tile, kTileStride, scratch.panels,
                    rounded_up(count, kPanel<Real>) * kPanel<Real>, block.rows, params.width, count,
                    anchors_part, padded, column > block.column_begin);
    multiply<true>(scratch.tile, kTileStride, anchors.panels, kBlockRows * kPanel<Real>, count,
                   params.width, block.rows, candidates_grad + column * grad_stride, grad_stride,
                   accumulate);
  }
}

template <typename Input>
size_t forward_bytes(const ContrastiveLossParams<Input>& params) {
  using Real = typename Accumulated<Input>::type;
  Carver carver(nullptr);
  lay_out_anchors<Real>(params.width, carver);
  lay_out_chunk<Real>(params.width, carver);
  return carver.bytes();
}

template <typename Input>
size_t backward_bytes(const ContrastiveLossParams<Input>& params) {
  Carver carver(nullptr);
  lay_out_chunk<typename Accumulated<Input>::type>(params.width, carver);
  return carver.bytes();
}

template <typename Input>
size_t anchors_bytes(const ContrastiveLossParams<Input>& params) {
  Carver carver(nullptr);
  lay_out_anchors<typename Accumulated<Input>::type>(params.width, carver);
  return carver.bytes();
}

template <typename Input>
constexpr ContrastiveLevel<Input> make_level() {
  constexpr bool is_double = std::is_same_v<Input, double>;
  return {is_double ? padded_width_double : padded_width_float,
          forward_bytes<Input>,
          backward_bytes<Input>,
          anchors_bytes<Input>,
          forward<Input>,
          pack_anchors<Input>,
          backward<Input>};
}

}  // namespace

const ContrastiveLevel<float> contrastive_float = make_level<float>();
const ContrastiveLevel<double> contrastive_double = make_level<double>();
const ContrastiveLevel<BFloat16> contrastive_bfloat16 = make_level<BFloat16>();

}  // namespace usvs::cpu::USVS_LEVEL
