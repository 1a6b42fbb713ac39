// The contrastive op: its parameters and its entry points. No torch here.
//
//   n anchors   M candidates   d = width   T = temperature
//   a = v.s / T, b = v.s' / T, m = a - b
//   eq2:     loss = -a - g(m) + logsumexp_{k != self} v.c_k / T
//   ntxent:  loss = -a        + logsumexp_{k != self} v.c_k / T
//   g(m) = log(1 - exp(-m)) for m >= margin_floor, and its tangent there below it
#pragma once
#include <cstddef>
#include <cstdint>

#include "bfloat16.h"
#include "stream.h"
#include "threads.h"

namespace usvs {

enum class ContrastiveForm { eq2, ntxent };

// What a dtype is summed in: float32 for bfloat16, itself otherwise.
template <typename Input>
struct Accumulated {
  using type = Input;
};
template <>
struct Accumulated<BFloat16> {
  using type = float;
};

template <typename Input>
struct ContrastiveLossParams {
  using Real = typename Accumulated<Input>::type;
  const Input* anchors;         // [n, d]
  const Input* positives;       // [n, d]
  const Input* hard_negatives;  // [n, d]
  const Input* candidates;      // [M, d]
  const int64_t* self_index;    // [n]; -1: the anchor is not among the candidates
  Real* losses;                 // [n]; the forward pass writes it
  Real* logsumexp;              // [n]; forward writes, backward reads
  // Computed with the losses where the caller will want gradients: of every loss, the slope with
  // respect to its anchor; of their sum, the slope with respect to every candidate; g'(m), or 0 in
  // a form without a margin, from which the slopes of positives and hard negatives follow.
  Real* anchors_slope;         // [n, d]
  Real* candidates_slope;      // [M, d]
  Real* margin_slope;          // [n]
  const Real* losses_grad;     // [n]; from here on the backward pass only
  Input* anchors_grad;         // [n, d]
  Input* positives_grad;       // [n, d]
  Input* hard_negatives_grad;  // [n, d]
  Input* candidates_grad;      // [M, d]
  int64_t rows;                // n
  int64_t columns;             // M
  int64_t width;               // d
  double temperature;
  double margin_floor;
  ContrastiveForm form;
};

namespace cpu {
template <typename Input>
void contrastive_loss_forward(const ContrastiveLossParams<Input>& params, const Threads& threads);
template <typename Input>
void contrastive_loss_backward(const ContrastiveLossParams<Input>& params, const Threads& threads);
// The forward pass and, from the same exponentials, the slopes: 3 products of matrices where
// forward and backward on their own need 4.
template <typename Input>
void contrastive_loss_with_slopes(const ContrastiveLossParams<Input>& params,
                                  const Threads& threads);
// The backward pass from the slopes; recomputes only where the losses are weighted unequally.
template <typename Input>
void contrastive_loss_backward_from_slopes(const ContrastiveLossParams<Input>& params,
                                           const Threads& threads);
}  // namespace cpu

// float and BFloat16 only; rows and columns below 2^31. Either pass is one launch on the stream,
// allocates nothing and waits for nothing.
namespace cuda {
enum class Pass { forward, backward };
// What a pass wants beside its tensors: nothing where rows alone fill a device.
template <typename Input>
size_t contrastive_loss_workspace_bytes(Pass pass, int64_t rows, int64_t columns, int64_t width);
template <typename Input>
void contrastive_loss_forward(const ContrastiveLossParams<Input>& params, void* workspace,
                              const Stream& stream);
template <typename Input>
void contrastive_loss_backward(const ContrastiveLossParams<Input>& params, void* workspace,
                               const Stream& stream);
}  // namespace cuda
}  // namespace usvs
