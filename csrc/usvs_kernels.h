// The kernels for C++ programs, without torch: link CMake's target usvs::kernels and include this.
// csrc/example/kernels.cpp shows both ops.
#pragma once
#include "contrastive_loss.h"
#include "log_spectrogram.h"
#include "threads.h"

namespace usvs {

// Does all the work on the calling thread. A program with threads of its own fills a Threads with a
// function that hands out slices to them; the result has the same bits for any number.
inline constexpr Threads calling_thread{
    [](int64_t tasks, void* context, Threads::Body body) { body(context, 0, tasks); }};

}  // namespace usvs
