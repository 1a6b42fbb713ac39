// The contrastive loss at one SIMD level; this file is compiled once for each level.
#include "cpu/contrastive_loss_simd.h"

#include "cpu/contrastive_rows.h"
#include "cpu/contrastive_weights.h"

namespace usvs::cpu::USVS_LEVEL {
namespace {

template <typename Input>
using RealOf = typename Accumulated<Input>::type;

// Below every logit. Not -inf: -inf - -inf is NaN.
template <typename Real>
constexpr Real kLowestValue = std::numeric_limits<Real>::lowest();

// Calls function(column, count, chunk) for every chunk of the block; chunks are counted from its
// first.
template <typename Function>
USVS_INLINE void for_each_chunk(ContrastiveBlock block, const Function& function) {
  int64_t chunk = 0;
  for (int64_t column = block.column_begin; column < block.column_end; column += kChunkColumns) {
    const int64_t left = block.column_end - column;
    function(column, left < kChunkColumns ? left : kChunkColumns, chunk++);
  }
}

template <typename Input>
void forward(const ContrastiveLossInputs<Input>& params, ContrastiveBlock block, const void* packed,
             RealOf<Input>* largest, double* sum, void* memory) {
  using Real = RealOf<Input>;
  const AnchorBlock<Input> anchors(params.width, const_cast<void*>(packed));
  ChunkScratch<Input> scratch(params.width, memory);
  Real running_max[kBlockRows], chunk_sum[kBlockRows];
  for (int64_t i = 0; i < kBlockRows; ++i) running_max[i] = kLowestValue<Real>;
  for (int64_t i = 0; i < block.rows; ++i) sum[i] = 0;
  for_each_chunk(block, [&](int64_t column, int64_t count, int64_t) {
    for (int64_t i = 0; i < block.rows; ++i) largest[i] = running_max[i];
    chunk_weights<Shift::raise_to_largest, WeightStore::none>(
        params, anchors, block, column, count, scratch, scratch.weights, running_max, chunk_sum);
    for (int64_t i = 0; i < block.rows; ++i) {
      if (largest[i] != running_max[i]) {
        sum[i] *= __builtin_exp(static_cast<double>(largest[i]) - running_max[i]);
      }
      sum[i] += chunk_sum[i];
    }
  });
  for (int64_t i = 0; i < block.rows; ++i) largest[i] = running_max[i];
}

template <typename Input>
void compute_weights(const ContrastiveLossInputs<Input>& params, ContrastiveBlock block,
                     const void* packed, bool streaming, void* weights, RealOf<Input>* largest,
                     double* sum, void* memory) {
  using Real = RealOf<Input>;
  const AnchorBlock<Input> anchors(params.width, const_cast<void*>(packed));
  ChunkScratch<Input> scratch(params.width, memory);
  Real chunk_sum[kBlockRows];
  for_each_chunk(block, [&](int64_t column, int64_t count, int64_t chunk) {
    auto* stored_weights =
        static_cast<WeightOf<Input>*>(weights) + chunk * kChunkColumns * tile_stride(block.rows);
    Real* running_max = largest + chunk * kBlockRows;
    for (int64_t i = 0; i < kBlockRows; ++i) running_max[i] = kLowestValue<Real>;
    const auto compute = streaming
                             ? chunk_weights<Shift::raise_to_largest, WeightStore::streaming, Input>
                             : chunk_weights<Shift::raise_to_largest, WeightStore::cached, Input>;
    compute(params, anchors, block, column, count, scratch, stored_weights, running_max, chunk_sum);
    for (int64_t i = 0; i < block.rows; ++i) sum[chunk * kBlockRows + i] = chunk_sum[i];
  });
}

template <typename Input>
void multiply_chunks(const ContrastiveLossInputs<Input>& params, ContrastiveBlock block,
                     const void* packed, const void* weights, const RealOf<Input>* scale,
                     RealOf<Input>* anchors_partial, RealOf<Input>* candidates_grad,
                     int64_t grad_stride, bool accumulate, void* memory) {
  const AnchorBlock<Input> anchors(params.width, const_cast<void*>(packed));
  ChunkScratch<Input> scratch(params.width, memory);
  for_each_chunk(block, [&](int64_t column, int64_t count, int64_t chunk) {
    const auto* stored_weights = static_cast<const WeightOf<Input>*>(weights);
    chunk_products(params, anchors, block.rows, column, count,
                   stored_weights + chunk * kChunkColumns * tile_stride(block.rows),
                   scale + chunk * kBlockRows, scratch, anchors_partial, chunk > 0,
                   candidates_grad + column * grad_stride, grad_stride, accumulate);
  });
}

template <typename Input>
void backward(const ContrastiveBackwardParams<Input>& params, ContrastiveBlock block,
              const void* packed, RealOf<Input>* anchors_partial, RealOf<Input>* candidates_grad,
              int64_t grad_stride, bool accumulate, void* memory) {
  using Real = RealOf<Input>;
  const AnchorBlock<Input> anchors(params.width, const_cast<void*>(packed));
  ChunkScratch<Input> scratch(params.width, memory);
  Real scale[kBlockRows], shift[kBlockRows] = {}, sum[kBlockRows];
  for (int64_t i = 0; i < block.rows; ++i) {
    // An anchor without a finite loss has no weight.
    const Real logsumexp = params.logsumexp[block.begin + i];
    const bool has_loss = __builtin_isfinite(logsumexp);
    scale[i] = has_loss ? Real(params.losses_grad[block.begin + i] / params.temperature) : Real(0);
    shift[i] = has_loss ? logsumexp : kNoWeight<Real>;
  }
  for_each_chunk(block, [&](int64_t column, int64_t count, int64_t chunk) {
    chunk_weights<Shift::fixed, WeightStore::cached>(params, anchors, block, column, count, scratch,
                                                     scratch.weights, shift, sum);
    chunk_products(params, anchors, block.rows, column, count, scratch.weights, scale, scratch,
                   anchors_partial, chunk > 0, candidates_grad + column * grad_stride, grad_stride,
                   accumulate);
  });
}

template <typename Input>
void pack_anchors(const ContrastiveLossInputs<Input>& params, int64_t begin, int64_t rows,
                  void* memory) {
  AnchorBlock<Input> anchors(params.width, memory);
  anchors.pack(params.anchors + begin * params.width, rows, params.width);
}

template <typename Input>
int64_t padded_width(int64_t width) {
  return rounded_up(width, kPanel<RealOf<Input>>);
}

template <typename Input>
size_t anchors_bytes(const ContrastiveLossInputs<Input>& params) {
  return AnchorBlock<Input>(params.width, nullptr).bytes;
}

template <typename Input>
size_t scratch_bytes(const ContrastiveLossInputs<Input>& params) {
  return ChunkScratch<Input>(params.width, nullptr).bytes;
}

template <typename Input>
constexpr ContrastiveLevel<Input> make_level() {
  using Real = RealOf<Input>;
  return {sizeof(WeightOf<Input>),
          padded_width<Input>,
          anchors_bytes<Input>,
          scratch_bytes<Input>,
          pack_anchors<Input>,
          forward<Input>,
          compute_weights<Input>,
          multiply_chunks<Input>,
          backward<Input>,
          compute_margin<Input>,
          add_pair_gradient<Input, Real>,
          pair_gradients<Input>,
          scale_and_store<Input, Real>,
          sum_partials<Real>};
}

}  // namespace

#if !defined(__AVX512BF16__)  // there they would equal those of avx512
const ContrastiveLevel<float> contrastive_float = make_level<float>();
const ContrastiveLevel<double> contrastive_double = make_level<double>();
#endif
const ContrastiveLevel<BFloat16> contrastive_bfloat16 = make_level<BFloat16>();

}  // namespace usvs::cpu::USVS_LEVEL
