"""The compiled libraries: libusvs_ops.so registers the ops with torch, usvs._C reports how it was built.

Importing this module loads libusvs_ops.so. The modules of `usvs.ops` look their ops up when they are imported, so this
one is imported first.

libusvs_ops.so uses torch's stable ABI and no Python: one file serves every Python and every torch from 2.11 on.
"""

from pathlib import Path
from typing import Any

import torch

from usvs.errors import MissingDependencyError

LIBRARY = Path(__file__).resolve().parents[1] / "libusvs_ops.so"
_BUILD_COMMAND = "pip install --no-build-isolation -e ."


def _load() -> None:
    """Register torch.ops.usvs.

    Raises:
        MissingDependencyError: if the library was not built or does not load.
    """
    try:
        torch.ops.load_library(str(LIBRARY))  # type: ignore[no-untyped-call]
    except OSError as error:
        raise MissingDependencyError(
            f"the compiled kernels cannot be loaded ({error}); build them with: {_BUILD_COMMAND}"
        ) from error


def read_build_info() -> dict[str, Any]:
    """Return what the compiled libraries say of themselves.

    Raises:
        MissingDependencyError: if usvs._C was not built for this Python.
    """
    try:
        from usvs import _C
    except ImportError as error:
        raise MissingDependencyError(
            f"usvs._C cannot be loaded ({error}); build it for this Python with: {_BUILD_COMMAND}"
        ) from error
    return _C.build_info()


_load()
