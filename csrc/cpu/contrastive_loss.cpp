// The contrastive loss on the CPU: divides the work into blocks, distributes them to threads and
// adds the partial results in a fixed order. One file because its four passes share this division
// and GradientPass.
#include "contrastive_loss.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "cpu/contrastive_loss_simd.h"
#include "cpu/scratch.h"
#include "cpu/simd_level.h"

namespace usvs::cpu {
namespace {

// Largest number of groups of candidates. Each group costs the backward pass one block of partial
// gradients.
constexpr int64_t kMaxGroups = 32;
constexpr int64_t kForwardGroupChunks = 32;
// Partial results that the forward pass keeps at a time, unless one block of anchors has more.
constexpr int64_t kMaxPartialResults = 1 << 18;
// The weights of a block of anchors are stored between the two halves of
// contrastive_loss_with_slopes; blocks have fewer rows (at least kMaxPanel) to stay below this
// size.
constexpr size_t kMaxWeightsBytes = 32 << 20;
// Above this they are written past the caches, which they do not fit into.
constexpr size_t kStreamingBytes = 8 << 20;
// Scratch memory above this is freed after a pass: a pass that needs it takes so long that page
// faults of the next one do not matter, and the gradients need the memory.
constexpr size_t kMaxRetainedBytes = 8 << 20;

// In place of g'(m) for an anchor whose logits are not finite: its own gradients become NaN. It has
// no weight in the gradients of the candidates.
constexpr double kNoLoss = std::numeric_limits<double>::quiet_NaN();

template <typename Input>
const ContrastiveLevel<Input>& level_for() {
  if constexpr (std::is_same_v<Input, float>) return choose_level(USVS_LEVELS(contrastive_float));
  if constexpr (std::is_same_v<Input, double>) return choose_level(USVS_LEVELS(contrastive_double));
  if constexpr (std::is_same_v<Input, BFloat16>) {
    return choose_level<ContrastiveLevel<Input>>(
        USVS_LEVELS(contrastive_bfloat16),
        uses_bfloat16_products() ? USVS_AVX512_BF16_ENTRY(contrastive_bfloat16) : nullptr);
  }
}

int64_t ceil_divide(int64_t count, int64_t by) { return (count + by - 1) / by; }

// Group `group` of `groups`, in complete chunks.
ContrastiveBlock block_for_group(int64_t begin, int64_t rows, int64_t columns, int64_t group,
                                 int64_t groups) {
  const int64_t chunks = ceil_divide(columns, kChunkColumns);
  return {begin, rows, chunks * group / groups * kChunkColumns,
          std::min(columns, chunks * (group + 1) / groups * kChunkColumns)};
}

// Computes loss and logsumexp of an anchor from its partial results, which are `step` elements
// apart. Replaces `sum` by the factors that turn a partial result's exponentials into
// probabilities. Returns g'(m).
template <typename Input, typename Real>
double write_loss(const ContrastiveForwardParams<Input>& params, int64_t row, const Real* largest,
                  double* sum, int64_t partials, int64_t step) {
  Real top = largest[0];
  for (int64_t partial = 1; partial < partials; ++partial)
    top = std::max(top, largest[partial * step]);
  double total = 0;
  for (int64_t partial = 0; partial < partials; ++partial) {
    const double scale = std::exp(static_cast<double>(largest[partial * step]) - top);
    total += sum[partial * step] * scale;
    sum[partial * step] = scale;
  }
  for (int64_t partial = 0; partial < partials; ++partial) sum[partial * step] /= total;
  const double logsumexp = top + std::log(total);
  const ContrastiveMargin margin = level_for<Input>().compute_margin(params, row);
  params.logsumexp[row] = static_cast<Real>(logsumexp);
  params.losses[row] = static_cast<Real>(logsumexp - margin.positive - margin.value);
  return std::isfinite(params.logsumexp[row]) ? margin.slope : kNoLoss;
}

int64_t round_up_to_line(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// The memory of a pass that sums gradients block by block.
template <typename Input>
class GradientPass {
 public:
  using Real = typename Accumulated<Input>::type;

  // Sums the gradient of the candidates in `expected` or, if dtype or width do not allow it, in
  // scratch memory.
  GradientPass(const ContrastiveLossInputs<Input>& params, const Threads& threads, bool in_place,
               Real* expected, int64_t block_rows, size_t weights_bytes)
      : params_(params),
        threads_(threads),
        level_(level_for<Input>()),
        padded_(level_.padded_width(params.width)),
        chunks_(ceil_divide(params.columns, kChunkColumns)),
        groups_(std::min(chunks_, kMaxGroups)),
        block_rows_(block_rows),
        separate_sums_(!in_place || padded_ != params.width),
        scratch_bytes_(level_.scratch_bytes(params)) {
    const size_t anchors = round_up_to_line(level_.anchors_bytes(params));
    const size_t partials = round_up_to_line(groups_ * block_rows_ * padded_ * sizeof(Real));
    const size_t sums =
        separate_sums_ ? round_up_to_line(params.columns * padded_ * sizeof(Real)) : 0;
    char* memory =
        static_cast<char*>(call_scratch().reserve(anchors + partials + sums + weights_bytes));
    anchors_ = memory;
    anchor_partials_ = reinterpret_cast<Real*>(memory + anchors);
    candidates_ = separate_sums_ ? reinterpret_cast<Real*>(memory + anchors + partials) : expected;
    weights_ = memory + anchors + partials + sums;
  }

  ~GradientPass() { call_scratch().shrink_to(kMaxRetainedBytes); }

  // Packs every block of anchors and calls block(begin, rows).
  template <typename Block>
  void for_each_block(const Block& block) {
    if (params_.rows == 0) std::fill_n(candidates_, params_.columns * padded_, Real(0));
    for (int64_t begin = 0; begin < params_.rows; begin += block_rows_) {
      const int64_t rows = std::min(block_rows_, params_.rows - begin);
      level_.pack_anchors(params_, begin, rows, anchors_);
      block(begin, rows);
    }
  }

  // Calls group(candidates of the group, its first chunk, its partial sum of the anchors, scratch).
  template <typename Group>
  void for_each_group(int64_t begin, int64_t rows, const Group& group) {
    threads_.for_each(groups_, [&](int64_t index) {
      const ContrastiveBlock block = block_for_group(begin, rows, params_.columns, index, groups_);
      group(block, block.column_begin / kChunkColumns,
            anchor_partials_ + index * block_rows_ * padded_,
            task_scratch().reserve(scratch_bytes_));
    });
  }

  // The gradient of one anchor of the block: partial sums added in the order of the groups.
  Real* anchors_sum(int64_t row) const {
    Real* first = anchor_partials_ + row * padded_;
    level_.sum_partials(first, groups_, block_rows_ * padded_, params_.width, first);
    return first;
  }

  // Writes the gradient of the candidates, in Real or Input.
  template <typename To>
  void write_candidate_gradients(To* to) {
    if (!separate_sums_) return;
    threads_.for_each(params_.columns, [&](int64_t column) {
      const Real* row = candidates_ + column * padded_;
      if constexpr (std::is_same_v<To, Real>) {
        std::copy_n(row, params_.width, to + column * params_.width);
      } else {
        level_.scale_and_store(row, Real(1), params_.width, to + column * params_.width);
      }
    });
  }

  const ContrastiveLevel<Input>& level() const { return level_; }
  const void* anchors() const { return anchors_; }
  Real* candidates() const { return candidates_; }
  int64_t padded() const { return padded_; }
  int64_t chunks() const { return chunks_; }
  char* weights_of(int64_t chunk, int64_t rows) const {
    return weights_ + chunk * kChunkColumns * tile_stride(rows) * level_.weight_bytes;
  }
  // Sets the weights of an anchor of a block of `rows` to zero.
  void clear_weights(int64_t row, int64_t rows) const {
    const size_t stride = tile_stride(rows) * level_.weight_bytes;
    char* weight = weights_ + row * level_.weight_bytes;
    for (int64_t i = 0; i < chunks_ * kChunkColumns; ++i, weight += stride) {
      std::memset(weight, 0, level_.weight_bytes);
    }
  }

 private:
  const ContrastiveLossInputs<Input>& params_;
  const Threads& threads_;
  const ContrastiveLevel<Input>& level_;
  const int64_t padded_, chunks_, groups_, block_rows_;
  const bool separate_sums_;
  const size_t scratch_bytes_;
  void* anchors_;
  Real* anchor_partials_;
  Real* candidates_;
  char* weights_;
};

}  // namespace

template <typename Input>
void contrastive_loss_forward(const ContrastiveForwardParams<Input>& params,
                              const Threads& threads) {
  using Real = typename Accumulated<Input>::type;
  const auto& level = level_for<Input>();
  const size_t anchors_bytes = round_up_to_line(level.anchors_bytes(params));
  const size_t bytes = anchors_bytes + level.scratch_bytes(params);
  const int64_t blocks = ceil_divide(params.rows, kBlockRows);
  const int64_t groups = ceil_divide(params.columns, kForwardGroupChunks * kChunkColumns);
  const int64_t blocks_at_a_time =
      std::clamp<int64_t>(kMaxPartialResults / (kBlockRows * std::max<int64_t>(groups, 1)), 1,
                          std::max<int64_t>(blocks, 1));
  std::vector<Real> largest(blocks_at_a_time * kBlockRows * groups);
  std::vector<double> sum(largest.size());
  for (int64_t first_block = 0; first_block < blocks; first_block += blocks_at_a_time) {
    const int64_t count = std::min(blocks_at_a_time, blocks - first_block);
    threads.for_each(count * groups, [&](int64_t task) {
      const int64_t begin = (first_block + task / groups) * kBlockRows;
      const int64_t rows = std::min(kBlockRows, params.rows - begin);
      char* memory = static_cast<char*>(task_scratch().reserve(bytes));
      level.pack_anchors(params, begin, rows, memory);
      level.forward(params, block_for_group(begin, rows, params.columns, task % groups, groups),
                    memory, largest.data() + task * kBlockRows, sum.data() + task * kBlockRows,
                    memory + anchors_bytes);
    });
    threads.for_each(count, [&](int64_t block) {
      const int64_t begin = (first_block + block) * kBlockRows;
      for (int64_t row = begin; row < std::min(begin + kBlockRows, params.rows); ++row) {
        const int64_t first = block * groups * kBlockRows + row - begin;
        write_loss(params, row, largest.data() + first, sum.data() + first, groups, kBlockRows);
      }
    });
  }
}

template <typename Input>
void contrastive_loss_backward(const ContrastiveBackwardParams<Input>& params,
                               const Threads& threads) {
  using Real = typename Accumulated<Input>::type;
  constexpr bool in_place = std::is_same_v<Input, Real>;
  GradientPass<Input> pass(params, threads, in_place,
                           reinterpret_cast<Real*>(params.candidates_grad), kBlockRows, 0);
  pass.for_each_block([&](int64_t begin, int64_t rows) {
    pass.for_each_group(
        begin, rows, [&](ContrastiveBlock block, int64_t, Real* anchors_partial, void* scratch) {
          pass.level().backward(params, block, pass.anchors(), anchors_partial, pass.candidates(),
                                pass.padded(), begin > 0, scratch);
        });
    threads.for_each(rows, [&](int64_t i) {
      const int64_t row = begin + i;
      const double weight = params.losses_grad[row];
      const double slope = std::isfinite(params.logsumexp[row])
                               ? pass.level().compute_margin(params, row).slope
                               : kNoLoss;
      Real* const sum = pass.anchors_sum(i);
      pass.level().add_pair_gradient(params, row, weight, slope, sum);
      pass.level().scale_and_store(sum, Real(1), params.width,
                                   params.anchors_grad + row * params.width);
      pass.level().pair_gradients(params, row, weight, slope);
    });
  });
  pass.write_candidate_gradients(params.candidates_grad);
}

template <typename Input>
void contrastive_loss_with_slopes(const ContrastiveSlopesParams<Input>& params,
                                  const Threads& threads) {
  using Real = typename Accumulated<Input>::type;
  const int64_t chunks = ceil_divide(params.columns, kChunkColumns);
  const auto weights_bytes = [&](int64_t rows) -> size_t {
    return chunks * kChunkColumns * tile_stride(rows) * level_for<Input>().weight_bytes;
  };
  int64_t block_rows = kBlockRows;
  while (block_rows > kMaxPanel && weights_bytes(block_rows) > kMaxWeightsBytes) {
    block_rows -= kMaxPanel;
  }
  const size_t stored_bytes = weights_bytes(std::min(block_rows, params.rows));
  GradientPass<Input> pass(params, threads, true, params.candidates_slope, block_rows,
                           stored_bytes);
  prefer_large_pages(params.anchors_slope, params.rows * params.width * sizeof(Real));
  prefer_large_pages(params.candidates_slope, params.columns * params.width * sizeof(Real));
  std::vector<Real> largest(chunks * kBlockRows), scale(largest.size());
  std::vector<double> sum(largest.size());
  pass.for_each_block([&](int64_t begin, int64_t rows) {
    pass.for_each_group(
        begin, rows, [&](ContrastiveBlock block, int64_t chunk, Real*, void* scratch) {
          pass.level().compute_weights(params, block, pass.anchors(),
                                       stored_bytes > kStreamingBytes, pass.weights_of(chunk, rows),
                                       largest.data() + chunk * kBlockRows,
                                       sum.data() + chunk * kBlockRows, scratch);
        });
    threads.for_each(rows, [&](int64_t i) {
      params.margin_slope[begin + i] = static_cast<Real>(
          write_loss(params, begin + i, largest.data() + i, sum.data() + i, chunks, kBlockRows));
      const bool has_loss = std::isfinite(params.logsumexp[begin + i]);
      for (int64_t at = i; at < chunks * kBlockRows; at += kBlockRows) {
        const Real factor = static_cast<Real>(sum[at] / params.temperature);
        // Products with denormal numbers are many times slower.
        scale[at] = has_loss && factor >= std::numeric_limits<Real>::min() ? factor : Real(0);
      }
      if (!has_loss) pass.clear_weights(i, rows);
    });
    pass.for_each_group(
        begin, rows,
        [&](ContrastiveBlock block, int64_t chunk, Real* anchors_partial, void* scratch) {
          pass.level().multiply(params, block, pass.anchors(), pass.weights_of(chunk, rows),
                                scale.data() + chunk * kBlockRows, anchors_partial,
                                pass.candidates(), pass.padded(), begin > 0, scratch);
        });
    threads.for_each(rows, [&](int64_t i) {
      const int64_t row = begin + i;
      Real* const sum = pass.anchors_sum(i);
      pass.level().add_pair_gradient(params, row, 1, params.margin_slope[row], sum);
      std::copy_n(sum, params.width, params.anchors_slope + row * params.width);
    });
  });
  pass.write_candidate_gradients(params.candidates_slope);
}

template <typename Input>
void contrastive_loss_backward_from_slopes(const ContrastiveBackwardFromSlopesParams<Input>& params,
                                           const Threads& threads) {
  using Real = typename Accumulated<Input>::type;
  const Real weight = params.rows > 0 ? params.losses_grad[0] : Real(0);
  for (int64_t row = 1; row < params.rows; ++row) {
    if (params.losses_grad[row] != weight) return contrastive_loss_backward(params, threads);
  }
  prefer_large_pages(params.anchors_grad, params.rows * params.width * sizeof(Input));
  prefer_large_pages(params.positives_grad, params.rows * params.width * sizeof(Input));
  prefer_large_pages(params.hard_negatives_grad, params.rows * params.width * sizeof(Input));
  prefer_large_pages(params.candidates_grad, params.columns * params.width * sizeof(Input));
  const auto& level = level_for<Input>();
  constexpr int64_t slice = 64;
  threads.for_each(ceil_divide(params.rows, slice), [&](int64_t task) {
    const int64_t begin = task * slice, end = std::min(begin + slice, params.rows);
    for (int64_t row = begin; row < end; ++row) {
      level.pair_gradients(params, row, weight, params.margin_slope[row]);
    }
    level.scale_and_store(params.anchors_slope + begin * params.width, weight,
                          (end - begin) * params.width, params.anchors_grad + begin * params.width);
  });
  const int64_t elements = params.columns * params.width, elements_per_task = slice * 1024;
  threads.for_each(ceil_divide(elements, elements_per_task), [&](int64_t task) {
    const int64_t begin = task * elements_per_task;
    level.scale_and_store(params.candidates_slope + begin, weight,
                          std::min(elements_per_task, elements - begin),
                          params.candidates_grad + begin);
  });
}

#define USVS_INSTANTIATE(Input)                                                                   \
  template void contrastive_loss_forward(const ContrastiveForwardParams<Input>&, const Threads&); \
  template void contrastive_loss_backward(const ContrastiveBackwardParams<Input>&,                \
                                          const Threads&);                                        \
  template void contrastive_loss_with_slopes(const ContrastiveSlopesParams<Input>&,               \
                                             const Threads&);                                     \
  template void contrastive_loss_backward_from_slopes(                                            \
      const ContrastiveBackwardFromSlopesParams<Input>&, const Threads&);
USVS_INSTANTIATE(float)
USVS_INSTANTIATE(double)
USVS_INSTANTIATE(BFloat16)
#undef USVS_INSTANTIATE

}  // namespace usvs::cpu
