"""Some of many things, evenly spaced, so that none is chosen by what it shows."""

import numpy as np
from numpy.typing import NDArray


def evenly_spaced(count: int, most: int) -> NDArray[np.int64]:
    """Return up to `most` numbers of 0 .. `count` - 1 in increasing order, the first and the last one among them."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)
