"""The frames of the torch loader by NVIDIA DALI: one pipeline, on the CPU or, from the encoded bytes on, on a GPU.

Crop, flip and resize are one affine map whose coefficients are on the grid of `usvs.ops.augment_frames`, so that every
value is exact in float32. Only the JPEG decoder may differ from the torch loader's: on the CPU both use libjpeg-turbo
and the results are bit-equal; on a GPU nvJPEG may differ by one gray level.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from usvs.errors import MissingDependencyError
from usvs.models.preprocessing import CEILING, OFFSET, AugmentParams, CropGrid, slopes

Arrays = list[npt.NDArray[np.uint8]]
PipelineInputs = tuple[
    Arrays, npt.NDArray[np.float32], npt.NDArray[np.float32]
]  # frames, matrices [n, 2, 3], slopes [n]


class Dali(NamedTuple):
    """The parts of DALI that are used; `Any`, since its type stubs are not reliable."""

    fn: Any
    types: Any
    math: Any
    pipeline_def: Any


def import_dali() -> Dali:
    """Import DALI, which is an optional dependency.

    Raises:
        MissingDependencyError: where it is not installed or cannot be loaded.
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
    """What the pipeline is made for.

    Attributes:
        codec: of the store's frames, ``jpeg`` or ``raw``.
        side: of the prepared frames, pixels.
        pixels: P, side of the result, pixels.
        grid: how crops are placed.
        device_id: the GPU; None for the CPU.
    """

    codec: str
    side: int
    pixels: int
    grid: CropGrid
    device_id: int | None


def frames_pipeline(graph: FramesGraph, source: Iterator[PipelineInputs], batch_size: int, threads: int) -> Any:
    """Define the pipeline from encoded frames to a network's input; it is not built yet.

    Args:
        graph: what it is made for.
        source: yields the result of `pipeline_inputs` for each batch; the pipeline ends where it ends.
        batch_size: frames per batch.
        threads: DALI's, on the CPU.

    Returns:
        A pipeline with one output, float32 [P, P, 1] per frame.
    """
    dali = import_dali()
    fn, types = dali.fn, dali.types
    jpeg, on_gpu = graph.codec == "jpeg", graph.device_id is not None

    @dali.pipeline_def(batch_size=batch_size, num_threads=threads, device_id=graph.device_id)  # type: ignore[untyped-decorator]
    def frames() -> Any:
        level, matrix, slope = fn.external_source(
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
            level = _warp(dali, level, [2, 0, 0, 0, 2, 0], graph.side >> (halving + 1))
        level = _warp(dali, level, matrix, graph.pixels)
        return dali.math.min(level * (slope.gpu() if on_gpu else slope), CEILING) - OFFSET

    return frames()


def _warp(dali: Dali, level: Any, matrix: Any, side: int) -> Any:
    types = dali.types
    return dali.fn.warp_affine(
        level, matrix=matrix, size=(side, side), interp_type=types.INTERP_LINEAR, dtype=types.FLOAT
    )


def affine_matrices(params: AugmentParams, grid: CropGrid, pixels: int) -> npt.NDArray[np.float32]:
    """Return the affine map [n, 2, 3] from the result's (x, y) to the halved frame's, for each of n crops."""
    corner, scale = grid.corners(params) / 2**grid.halvings, grid.scales(params)
    matrix = np.zeros((len(corner), 2, 3), np.float32)
    matrix[:, 0, 0] = np.where(params.flip, -scale, scale)
    matrix[:, 0, 2] = corner[:, 1] + np.where(params.flip, scale * pixels, 0)
    matrix[:, 1, 1] = scale
    matrix[:, 1, 2] = corner[:, 0]
    return matrix


def pipeline_inputs(encoded: Arrays, params: AugmentParams, graph: FramesGraph) -> PipelineInputs:
    """Return the pipeline's inputs for a batch of n frames as `PreparedScan.read_encoded` returns them."""
    frames = encoded if graph.codec == "jpeg" else [frame[:, :, None] for frame in encoded]
    return frames, affine_matrices(params, graph.grid, graph.pixels), slopes(params.gain)
