// The kernels for C++ programs, without torch: link CMake's target usvs::kernels and include this.
// csrc/example/kernels.cpp uses both ops.
#pragma once
#include "contrastive_loss.h"
#include "log_spectrogram.h"
#include "threads.h"

namespace usvs {

// Runs everything on the calling thread. A program with a thread pool fills a Threads with a
// function that distributes slices; the result has the same bits for any number of threads.
inline constexpr Threads calling_thread{
    [](int64_t tasks, void* context, Threads::Body body) { body(context, 0, tasks); }};

}  // namespace usvs
