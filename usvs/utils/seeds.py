"""Named random streams: a patient is the same for any number of other patients.

The names are part of the generated data: renaming a stream changes every archive.
"""

import zlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the generator of a named stream, for example ``stream(seed, "patient", 3, "fan")``.

    Args:
        seed: the archive's seed.
        names: purpose of the numbers; other names give independent numbers.
    """
    words = [zlib.crc32(name.encode()) if isinstance(name, str) else name for name in names]
    return np.random.default_rng([seed, *words])


def between(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """Draw a uniform number between two bounds."""
    return float(rng.uniform(*bounds))
