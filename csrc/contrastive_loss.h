// The contrastive_loss op: its parameters and the functions of every backend. Includes no torch.
//
//   n anchors v   M candidates c   d = width   T = temperature
//   a = v.s / T, b = v.s' / T, m = a - b   for the positive s and the hard negative s' of an anchor
//   eq2:     loss = -a - g(m) + logsumexp_{k != self} v.c_k / T
//   ntxent:  loss = -a        + logsumexp_{k != self} v.c_k / T
//   g(m) = log(1 - exp(-m)) for m >= margin_floor, continued below it by its tangent there
#pragma once
#include <cstddef>
#include <cstdint>

#include "bfloat16.h"
#include "stream.h"
#include "threads.h"

namespace usvs {

enum class ContrastiveForm { eq2, ntxent };

// The type in which sums of Input are computed: float for BFloat16, otherwise Input.
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
  // Written by contrastive_loss_with_slopes: the derivative of every loss with respect to its
  // anchor, the derivative of the sum of the losses with respect to every candidate, and g'(m) (0
  // for ntxent), from which the gradients of positives and hard negatives follow.
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
// The forward pass and the slopes from the same exponentials: 3 matrix products, where a forward
// and a backward pass need 4.
template <typename Input>
void contrastive_loss_with_slopes(const ContrastiveLossParams<Input>& params,
                                  const Threads& threads);
// The backward pass from the slopes. Recomputes the weights only if the losses have different
// gradients.
template <typename Input>
void contrastive_loss_backward_from_slopes(const ContrastiveLossParams<Input>& params,
                                           const Threads& threads);
}  // namespace cpu

// For float and BFloat16; rows and columns below 2^31. A pass is one kernel launch on the stream;
// it allocates nothing and does not wait.
namespace cuda {
enum class Pass { forward, backward };
// Size of the workspace of a pass; 0 if the rows alone give enough blocks.
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
