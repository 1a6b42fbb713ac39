"""Samples of decoded audio frames as arrays."""

from collections.abc import Iterator

import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray


def to_float(frame: AudioFrame) -> NDArray[np.float32]:
    """Return a frame's samples, full scale 1 [channels, samples]."""
    if frame.layout.nb_channels == 1 and frame.format.name in ("flt", "fltp"):
        return np.frombuffer(memoryview(frame.planes[0]), np.float32, frame.samples)[None]
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - np.float32(128)) / np.float32(128)
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    with np.errstate(over="ignore"):  # infinite ones are counted and replaced
        return samples.astype(np.float32, copy=False)


def join_pieces(pieces: Iterator[NDArray[np.float32]], samples: int) -> Iterator[NDArray[np.float32]]:
    """Yield the samples of all pieces in arrays of at least `samples` each, except for the last."""
    joined: list[NDArray[np.float32]] = []
    length = 0
    for piece in pieces:
        joined.append(piece)
        length += len(piece)
        if length >= samples:
            yield np.concatenate(joined)
            joined, length = [], 0
    if joined:
        yield np.concatenate(joined)
