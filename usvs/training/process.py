"""How the process keeps its memory on the host."""

import ctypes
import sys

# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let the C library keep what a step frees for the next one, instead of giving it back to the system.

    A step on a CPU frees gigabytes of activations and asks for them again; by default every page goes back and returns
    with a page fault (docs/performance.md). For the whole process, for good; glibc only, elsewhere nothing is done.
    What the process holds at most does not change: it stays at its peak.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
