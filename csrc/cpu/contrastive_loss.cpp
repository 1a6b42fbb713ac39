// The contrastive loss: cuts the work into blocks, hands them to threads, and puts the parts
// together in a fixed order.
#include "contrastive_loss.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "cpu/contrastive_loss_simd.h"
#include "cpu/scratch.h"
#include "cpu/simd_level.h"

namespace usvs::cpu {
namespace {

// Candidates go to tasks in so many groups at most; each costs the backward pass one block of
// partial gradients.
constexpr int64_t kMostGroups = 32;
constexpr int64_t kForwardGroupChunks = 16;

double widened(float value) { return value; }
double widened(double value) { return value; }
double widened(BFloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

void narrow(double value, float& to) { to = static_cast<float>(value); }
void narrow(double value, double& to) { to = value; }
void narrow(double value, BFloat16& to) {
  const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(value));
  const uint32_t rounding = 0x7fff + ((bits >> 16) & 1);  // to the nearest, ties to even
  to.bits = std::isnan(value) ? 0x7fc0 : static_cast<uint16_t>((bits + rounding) >> 16);
}

template <typename Input>
const ContrastiveLevel<Input>& level_for() {
  auto pick = [](const auto& as_float, const auto& as_double,
                 const auto& as_bfloat16) -> const ContrastiveLevel<Input>& {
    if constexpr (std::is_same_v<Input, float>) return as_float;
    if constexpr (std::is_same_v<Input, double>) return as_double;
    if constexpr (std::is_same_v<Input, BFloat16>) return as_bfloat16;
  };
#define USVS_PICK(level) \
  pick(level::contrastive_float, level::contrastive_double, level::contrastive_bfloat16)
  switch (simd_level_in_use()) {
#ifdef USVS_WITH_AVX512
    case SimdLevel::avx512:
      return USVS_PICK(avx512);
#endif
#ifdef USVS_WITH_AVX2
    case SimdLevel::avx2:
      return USVS_PICK(avx2);
#endif
    default:
      return USVS_PICK(portable);
  }
#undef USVS_PICK
}

int64_t divided_up(int64_t count, int64_t by) { return (count + by - 1) / by; }

// Group `group` of `groups`, in whole chunks.
ContrastiveBlock block_of(int64_t begin, int64_t rows, int64_t columns, int64_t group,
                          int64_t groups) {
  const int64_t chunks = divided_up(columns, kChunkColumns);
  return {begin, rows, chunks * group / groups * kChunkColumns,
          std::min(columns, chunks * (group + 1) / groups * kChunkColumns)};
}

// v.s / T and v.s' / T; slope = g'(m), gap = g(m), both 0 in a form without a margin.
struct Margin {
  double positive, slope, gap;
};

template <typename Input>
Margin margin_of(const ContrastiveLossParams<Input>& params, int64_t row) {
  const int64_t offset = row * params.width;
  double positive = 0, negative = 0;
  for (int64_t k = 0; k < params.width; ++k) {
    const double v = widened(params.anchors[offset + k]);
    positive += v * widened(params.positives[offset + k]);
    negative += v * widened(params.hard_negatives[offset + k]);
  }
  positive /= params.temperature;
  if (params.form == ContrastiveForm::ntxent) return {positive, 0, 0};
  const double margin = positive - negative / params.temperature;
  const double floor = params.margin_floor, touching = margin < floor ? floor : margin;
  const double slope = 1 / std::expm1(touching);
  return {positive, slope, std::log(-std::expm1(-touching)) + (margin - touching) * slope};
}

template <typename Input>
void anchor_gradients(const ContrastiveLossParams<Input>& params, int64_t row,
                      const double* from_candidates) {
  const Margin margin = margin_of(params, row);
  const double weight = params.losses_grad[row] / params.temperature;
  const double pull = -weight * (1 + margin.slope), push = weight * margin.slope;
  const int64_t offset = row * params.width;
  for (int64_t k = 0; k < params.width; ++k) {
    const double v = widened(params.anchors[offset + k]);
    narrow(pull * v, params.positives_grad[offset + k]);
    narrow(push * v, params.hard_negatives_grad[offset + k]);
    narrow(from_candidates[k] + pull * widened(params.positives[offset + k]) +
               push * widened(params.hard_negatives[offset + k]),
           params.anchors_grad[offset + k]);
  }
}

}  // namespace

template <typename Input>
void contrastive_loss_forward(const ContrastiveLossParams<Input>& params, const Threads& threads) {
  using Real = typename Accumulated<Input>::type;
  const auto& level = level_for<Input>();
  const size_t bytes = level.forward_bytes(params);
  const int64_t blocks = divided_up(params.rows, kBlockRows);
  const int64_t groups = divided_up(params.columns, kForwardGroupChunks * kChunkColumns);
  std::vector<Real> largest(blocks * kBlockRows * groups);
  std::vector<double> sum(largest.size());
  threads.for_each(blocks * groups, [&](int64_t task) {
    const int64_t begin = task / groups * kBlockRows;
    const ContrastiveBlock block = block_of(begin, std::min(kBlockRows, params.rows - begin),
                                            params.columns, task % groups, groups);
    level.forward(params, block, largest.data() + task * kBlockRows, sum.data() + task * kBlockRows,
                  task_scratch().at_least(bytes));
  });
  threads.for_each(blocks, [&](int64_t block) {
    const int64_t end = std::min((block + 1) * kBlockRows, params.rows);
    for (int64_t row = block * kBlockRows; row < end; ++row) {
      const int64_t first = block * groups * kBlockRows + row - block * kBlockRows;
      Real top = largest[first];
      for (int64_t g = 1; g < groups; ++g) top = std::max(top, largest[first + g * kBlockRows]);
      double total = 0;
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t i = first + g * kBlockRows;
        total += sum[i] * std::exp(static_cast<double>(largest[i]) - top);
      }
      const double logsumexp = top + std::log(total);
      const Margin margin = margin_of(params, row);
      params.logsumexp[row] = static_cast<Real>(logsumexp);
      params.losses[row] = static_cast<Real>(logsumexp - margin.positive - margin.gap);
    }
  });
}

template <typename Input>
void contrastive_loss_backward(const ContrastiveLossParams<Input>& params, const Threads& threads) {
  using Real = typename Accumulated<Input>::type;
  const auto& level = level_for<Input>();
  const int64_t padded = level.padded_width(params.width);
  const int64_t chunks = divided_up(params.columns, kChunkColumns);
  const int64_t groups = std::min(chunks, kMostGroups);
  const size_t bytes = level.backward_bytes(params), anchors_bytes = level.anchors_bytes(params);
  // Gradients of the candidates are summed where they are wanted, or, where dtype or width forbid
  // it, aside.
  const bool aside = !std::is_same_v<Input, Real> || padded != params.width;
  const size_t parts = groups * kBlockRows * padded, sums = aside ? params.columns * padded : 0;
  char* memory =
      static_cast<char*>(call_scratch().at_least(anchors_bytes + (parts + sums) * sizeof(Real)));
  Real* const anchors_parts = reinterpret_cast<Real*>(memory + anchors_bytes);
  Real* const candidates_grad =
      aside ? anchors_parts + parts : reinterpret_cast<Real*>(params.candidates_grad);
  for (int64_t begin = 0; begin < params.rows; begin += kBlockRows) {
    const int64_t rows = std::min(kBlockRows, params.rows - begin);
    level.pack_anchors(params, begin, rows, memory);
    threads.for_each(groups, [&](int64_t group) {
      level.backward(params, block_of(begin, rows, params.columns, group, groups), memory,
                     anchors_parts + group * kBlockRows * padded, candidates_grad, padded,
                     begin > 0, task_scratch().at_least(bytes));
    });
    threads.for_each(rows, [&](int64_t i) {
      std::vector<double> from_candidates(params.width);
      for (int64_t group = 0; group < groups; ++group) {
        const Real* part = anchors_parts + (group * kBlockRows + i) * padded;
        for (int64_t k = 0; k < params.width; ++k) from_candidates[k] += part[k];
      }
      anchor_gradients(params, begin + i, from_candidates.data());
    });
  }
  if (params.rows == 0) std::fill_n(candidates_grad, params.columns * padded, Real(0));
  if (!aside) return;
  threads.for_each(params.columns, [&](int64_t column) {
    for (int64_t k = 0; k < params.width; ++k) {
      narrow(candidates_grad[column * padded + k],
             params.candidates_grad[column * params.width + k]);
    }
  });
}

#define USVS_INSTANTIATE(Input)                                                                \
  template void contrastive_loss_forward(const ContrastiveLossParams<Input>&, const Threads&); \
  template void contrastive_loss_backward(const ContrastiveLossParams<Input>&, const Threads&);
USVS_INSTANTIATE(float)
USVS_INSTANTIATE(double)
USVS_INSTANTIATE(BFloat16)
#undef USVS_INSTANTIATE

}  // namespace usvs::cpu
