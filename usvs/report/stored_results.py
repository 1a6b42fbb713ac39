"""Reading what runs and experiments store for their figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.utils.regular_files import read_regular_text


def read_results(folder: Path, kind: str, *others: str) -> dict[str, Any]:
    """Return the content of ``results.json``, of one of some kinds.

    Raises:
        DataError: where there is none, or it is of another kind.
    """
    file = folder / "results.json"
    try:
        results: dict[str, Any] = json.loads(read_regular_text(file))
    except (OSError, ValueError) as error:
        raise DataError(f"'{file}': expected stored results, got {error}") from None
    if results.get("kind") not in (kind, *others):
        raise DataError(f"'{file}': expected results of kind '{kind}', got '{results.get('kind')}'")
    return results


def read_examples(file: Path) -> dict[str, NDArray[Any]]:
    """Return the stored arrays of examples by name: ``frames``, ``truth`` and predictions, each [n, P, P].

    Raises:
        DataError: where there are none.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError) as error:
        raise DataError(f"'{file}': expected stored examples, got {error}") from None


def example_maps(examples: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the maps of stored examples by title, the ground truth first."""
    predicted = {
        name.removeprefix("predicted_"): maps for name, maps in examples.items() if name.startswith("predicted_")
    }
    return {"ground truth": examples["truth"], **predicted}
