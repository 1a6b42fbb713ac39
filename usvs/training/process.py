"""Settings of the whole process that training on a CPU relies on, set for a block and restored after it.

Importing this package or constructing a `Trainer` changes none of them: the entry point that owns the process does
(`usvs.pretrain`, fine-tuning, the command line), by `process_settings`.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# glibc's malloc.h, and its defaults
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
DEFAULT_TRIM_THRESHOLD, DEFAULT_MMAP_MAX = 128 << 10, 65536

_memory_users = 0


@contextmanager
def process_settings(device: torch.device) -> Iterator[None]:
    """Set what training on `device` needs of the process; blocks may be nested.

    On a CPU: torch's deterministic algorithms, without filling uninitialised memory, so that the same seed gives the
    same bits; and the C library keeps freed memory. On a GPU nothing is set, since its deterministic kernels cost speed
    and equal bits are not promised there.

    Args:
        device: that the block trains on.
    """
    if device.type != "cpu":
        yield
        return
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with keep_freed_memory():
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Let the C library keep freed memory for the next allocation instead of returning it to the system.

    A step on a CPU frees gigabytes of activations and allocates them again; by default every page is returned and comes
    back with a page fault (docs/performance.md). The peak of the process does not change. Batches that one thread
    allocates and another frees must stay out of the heap (`usvs.data.prefetch`), which would become fragmented and grow
    from step to step. glibc only; elsewhere nothing is done. After the outermost block glibc's default thresholds are
    set again and free memory is returned; its dynamic adjustment of them, which any explicit value turns off, stays
    off.
    """
    global _memory_users
    library = _c_library()
    if library is None:
        yield
        return
    _memory_users += 1
    library.mallopt(M_MMAP_MAX, 0)
    library.mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        _memory_users -= 1
        if _memory_users == 0:
            library.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
            library.mallopt(M_TRIM_THRESHOLD, DEFAULT_TRIM_THRESHOLD)
            library.malloc_trim(0)


def _c_library() -> Any:
    """Return the C library where it is glibc, else None."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
        _ = library.mallopt, library.malloc_trim
    except (OSError, AttributeError):
        return None
    return library
