// Launches the loss as a C++ program would: without a CUDA driver an error must be reported.
#include <cstdio>
#include <exception>

#include "contrastive_loss.h"

int main() {
  usvs::ContrastiveForwardParams<float> params{};
  params.rows = params.columns = params.width = 1;
  params.temperature = params.margin_floor = 1;
  try {
    usvs::cuda::contrastive_loss_forward(params, nullptr, usvs::Stream{0, nullptr});
  } catch (const std::exception& error) {
    return std::printf("%s\n", error.what()), 0;
  }
  return std::printf("no error\n"), 1;
}
