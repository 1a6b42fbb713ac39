// The contrastive_loss op: its parameters and the functions of every backend. Includes no torch.
//
//   n anchors v   M candidates c   d = width   T = temperature
//   a = v.s / T, b = v.s' / T, m = a - b   for the positive s and the hard negative s' of an anchor
//   eq2:        loss = -a - g(m) + logsumexp_{k != self} v.c_k / T
//   ntxent:     loss = -a        + logsumexp_{k != self} v.c_k / T
//   logsumexp:  loss =             logsumexp_{k != self} v.c_k / T
//   g(m) = log(1 - exp(-m)) for m >= margin_floor, continued below it by its tangent there
#pragma once
#include <cstddef>
#include <cstdint>

#include "bfloat16.h"
#include "stream.h"
#include "threads.h"

namespace usvs {

enum class ContrastiveForm { eq2, ntxent, logsumexp };

// The type in which sums of Input are computed: float for BFloat16, otherwise Input.
template <typename Input>
struct Accumulated {
  using type = Input;
};
template <>
struct Accumulated<BFloat16> {
  using type = float;
};

// What every pass reads.
template <typename Input>
struct ContrastiveLossInputs {
  using Real = typename Accumulated<Input>::type;
  const Input* anchors;         // [n, d]
  const Input* positives;       // [n, d]; not read by logsumexp
  const Input* hard_negatives;  // [n, d]; not read by logsumexp
  const Input* candidates;      // [M, d]
  const int64_t* self_index;    // [n]; -1: the anchor is not among the candidates
  int64_t rows;                 // n
  int64_t columns;              // M
  int64_t width;                // d
  double temperature;
  const Real* device_temperature;  // CUDA: read in place of temperature, unless null
  double margin_floor;
  ContrastiveForm form;
};

template <typename Input>
struct ContrastiveForwardParams : ContrastiveLossInputs<Input> {
  using Real = typename Accumulated<Input>::type;
  Real* losses;     // [n]
  Real* logsumexp;  // [n]
};

// The forward pass with slopes also writes the derivative of every loss with respect to its anchor,
// the derivative of the sum of the losses with respect to every candidate, and g'(m) (0 for
// ntxent), from which the gradients of positives and hard negatives follow.
template <typename Input>
struct ContrastiveSlopesParams : ContrastiveForwardParams<Input> {
  using Real = typename Accumulated<Input>::type;
  Real* anchors_slope;     // [n, d]
  Real* candidates_slope;  // [M, d]
  Real* margin_slope;      // [n]
};

template <typename Input>
struct ContrastiveBackwardParams : ContrastiveLossInputs<Input> {
  using Real = typename Accumulated<Input>::type;
  const Real* logsumexp;       // [n], of the forward pass
  const Real* losses_grad;     // [n]
  Input* anchors_grad;         // [n, d]
  Input* positives_grad;       // [n, d]; not written by logsumexp
  Input* hard_negatives_grad;  // [n, d]; not written by logsumexp
  Input* candidates_grad;      // [M, d]
};

template <typename Input>
struct ContrastiveBackwardFromSlopesParams : ContrastiveBackwardParams<Input> {
  using Real = typename Accumulated<Input>::type;
  const Real* anchors_slope;     // [n, d]
  const Real* candidates_slope;  // [M, d]
  const Real* margin_slope;      // [n]
};

namespace cpu {
template <typename Input>
void contrastive_loss_forward(const ContrastiveForwardParams<Input>& params,
                              const Threads& threads);
template <typename Input>
void contrastive_loss_backward(const ContrastiveBackwardParams<Input>& params,
                               const Threads& threads);
// The forward pass and the slopes from the same exponentials: 3 matrix products, where a forward
// and a backward pass need 4.
template <typename Input>
void contrastive_loss_with_slopes(const ContrastiveSlopesParams<Input>& params,
                                  const Threads& threads);
// The backward pass from the slopes. Recomputes the weights only if the losses have different
// gradients.
template <typename Input>
void contrastive_loss_backward_from_slopes(const ContrastiveBackwardFromSlopesParams<Input>& params,
                                           const Threads& threads);
}  // namespace cpu

// For float and BFloat16; rows and columns below 2^31. A pass is one kernel launch on the stream,
// a backward pass of a width above 128 two launches for each panel of weights; it allocates nothing
// and does not wait.
namespace cuda {
enum class Pass { forward, backward };
// Size of the workspace of a pass; 0 if the rows alone give enough blocks.
template <typename Input>
size_t contrastive_loss_workspace_bytes(Pass pass, int64_t rows, int64_t columns, int64_t width);
template <typename Input>
void contrastive_loss_forward(const ContrastiveForwardParams<Input>& params, void* workspace,
                              const Stream& stream);
template <typename Input>
void contrastive_loss_backward(const ContrastiveBackwardParams<Input>& params, void* workspace,
                               const Stream& stream);
}  // namespace cuda
}  // namespace usvs
