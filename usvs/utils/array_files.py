"""Files of named arrays."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usvs.utils.atomic_files import write_durably, writing


def write_arrays(file: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write named arrays as one compressed file, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    with writing(f"'{file}'"):
        file.parent.mkdir(exist_ok=True)
        write_durably(file, buffer.getvalue())
