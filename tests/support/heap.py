"""Bytes in use of the C library's heap, which tell a leak that resident memory hides for thousands of steps."""

import ctypes
import sys
from collections.abc import Callable

import pytest

FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class _MallocInfo(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_size_t) for name in FIELDS)


def heap_used_bytes() -> int:
    """Return the bytes of all blocks that are allocated now; skips the test where glibc cannot tell (before 2.33)."""
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if not hasattr(library, "mallinfo2"):
        pytest.skip("no mallinfo2 of glibc here: the heap is not measured")
    mallinfo2 = library.mallinfo2
    mallinfo2.restype = _MallocInfo
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def leaked_bytes_per_call(function: Callable[[], object], calls: int = 400) -> float:
    """Return by how much the heap grows per call, once buffers of the first calls have been allocated."""
    for _ in range(calls // 4):
        function()
    before = heap_used_bytes()
    for _ in range(calls):
        function()
    return (heap_used_bytes() - before) / calls
