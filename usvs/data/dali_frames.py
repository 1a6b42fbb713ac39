"""The same frames by NVIDIA DALI: one graph, on the CPU or, from the encoded bytes on, on a GPU.

Crop, mirror and resize are one affine map whose numbers lie on the grid of `usvs.ops.augment_frames`, so that every
value is exact in float32. What differs from the torch loader is at most the JPEG decoder: on the CPU both use
libjpeg-turbo, and the bits are equal; on a GPU nvJPEG may be a gray level off.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from usvs.errors import MissingDependencyError
from usvs.models.preprocessing import CEILING, OFFSET, AugmentParams, CropGrid, slopes

Arrays = list[npt.NDArray[np.uint8]]
Fed = tuple[Arrays, npt.NDArray[np.float32], npt.NDArray[np.float32]]  # frames, places [n, 2, 3], slopes [n]


class Dali(NamedTuple):
    """The parts of DALI that are used; `Any`, as it ships no types that hold."""

    fn: Any
    types: Any
    math: Any
    pipeline_def: Any


def import_dali() -> Dali:
    """Import DALI where it is needed.

    Raises:
        MissingDependencyError: where it is not installed or does not load.
    """
    try:
        from nvidia.dali import fn, math, types
        from nvidia.dali.pipeline import pipeline_def
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingDependencyError(
            f"run.loader 'dali' needs NVIDIA DALI, which cannot be loaded here ({reason}): pip install 'usvs[dali]',"
            " or use --loader torch"
        ) from None
    return Dali(fn, types, math, pipeline_def)


class FramesGraph(NamedTuple):
    """What the graph is made for.

    Attributes:
        codec: of the store, ``jpeg`` or ``raw``.
        side: of the prepared frames.
        pixels: P, side of the result.
        grid: how crops are laid out.
        device_id: the GPU; None for the CPU.
    """

    codec: str
    side: int
    pixels: int
    grid: CropGrid
    device_id: int | None


def frames_pipeline(graph: FramesGraph, source: Iterator[Fed], batch_size: int, threads: int) -> Any:
    """Define the pipeline that makes encoded frames a network's input; it is not built yet.

    Args:
        graph: what it is made for.
        source: gives what `fed` makes, batch after batch; its end is the pipeline's.
        batch_size: frames a batch.
        threads: of DALI, on the CPU.

    Returns:
        A pipeline whose one output is float32 [P, P, 1] a frame.
    """
    dali = import_dali()
    fn, types = dali.fn, dali.types
    jpeg, on_gpu = graph.codec == "jpeg", graph.device_id is not None

    @dali.pipeline_def(batch_size=batch_size, num_threads=threads, device_id=graph.device_id)  # type: ignore[untyped-decorator]
    def frames() -> Any:
        level, place, slope = fn.external_source(
            source=source,
            num_outputs=3,
            batch=True,
            dtype=[types.UINT8, types.FLOAT, types.FLOAT],
            ndim=[1 if jpeg else 3, 2, 0],
            layout=["" if jpeg else "HWC", "", ""],
        )
        if jpeg:
            level = fn.decoders.image(level, device="mixed" if on_gpu else "cpu", output_type=types.GRAY)
        elif on_gpu:
            level = level.gpu()
        for halving in range(graph.grid.halvings):
            level = _mapped(dali, level, [2, 0, 0, 0, 2, 0], graph.side >> (halving + 1))
        level = _mapped(dali, level, place, graph.pixels)
        return dali.math.min(level * (slope.gpu() if on_gpu else slope), CEILING) - OFFSET

    return frames()


def _mapped(dali: Dali, level: Any, matrix: Any, side: int) -> Any:
    types = dali.types
    return dali.fn.warp_affine(
        level, matrix=matrix, size=(side, side), interp_type=types.INTERP_LINEAR, dtype=types.FLOAT
    )


def places(variation: AugmentParams, grid: CropGrid, pixels: int) -> npt.NDArray[np.float32]:
    """Return the affine map [n, 2, 3] from the result's (x, y) to the halved frame's, for each of n crops."""
    corner = grid.corners(variation) / 2**grid.halvings
    matrix = np.zeros((len(corner), 2, 3), np.float32)
    matrix[:, 0, 0] = np.where(variation.flip, -grid.scale, grid.scale)
    matrix[:, 0, 2] = corner[:, 1] + np.where(variation.flip, grid.scale * pixels, 0)
    matrix[:, 1, 1] = grid.scale
    matrix[:, 1, 2] = corner[:, 0]
    return matrix


def fed(encoded: Arrays, variation: AugmentParams, graph: FramesGraph) -> Fed:
    """Return what the pipeline is fed for a batch of n frames, from `PreparedScan.read_encoded`."""
    frames = encoded if graph.codec == "jpeg" else [frame[:, :, None] for frame in encoded]
    return frames, places(variation, graph.grid, graph.pixels), slopes(variation.gain)
