"""Random streams that depend on nothing but their names: one patient is the same whoever else is made."""

import zlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the generator of a named stream, for example ``stream(seed, "patient", 3, "fan")``.

    Args:
        seed: the archive's seed.
        names: what the numbers are for; another name gives unrelated numbers.
    """
    words = [zlib.crc32(name.encode()) if isinstance(name, str) else name for name in names]
    return np.random.default_rng([seed, *words])


def between(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """Draw a uniform number between two bounds."""
    return float(rng.uniform(*bounds))
