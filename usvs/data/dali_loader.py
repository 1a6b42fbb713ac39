"""The loader of pretraining by NVIDIA DALI: the batches of `PairLoader`, decoded and augmented by a DALI pipeline."""

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from usvs.data.dali_frames import Arrays, FramesGraph, PipelineInputs, frames_pipeline, pipeline_inputs
from usvs.data.order_sampling import ORDER_FRAMES
from usvs.data.pair_batch import (
    PairBatch,
    assemble_batch,
    draw_pair_augmentation,
    locate_frames,
    planned_frame_times,
    read_pairs,
)
from usvs.data.prefetch import load_in_order, step_range
from usvs.data.sampling_plan import PlanBatch
from usvs.data.torch_loader import PairLoader
from usvs.data.transforms import crop_grid
from usvs.errors import DataError
from usvs.models.preprocessing import AugmentParams


class _Request(NamedTuple):
    step: int
    planned: PlanBatch
    encoded: Arrays
    params: AugmentParams


@dataclass(frozen=True, eq=False)
class DaliPairLoader(PairLoader):
    """Decodes with DALI what `PairLoader` loads: bit-equal on the CPU, see `usvs.data.dali_frames`.

    Attributes:
        device: where frames are decoded and stay: the CPU or a GPU.
    """

    device: torch.device

    def batch(self, step: int) -> PairBatch:
        """Return the batch of one step; builds a pipeline each time, so use `batches` for more than one."""
        with closing(self.batches(step, step + 1)) as batches:  # type: ignore[type-var]
            return next(batches)

    def batches(self, start_step: int, stop_step: int) -> Iterator[PairBatch]:
        """Iterate over the batches of steps start_step .. stop_step - 1; arguments and errors as of `PairLoader`.

        Raises:
            MissingDependencyError: where DALI is not installed.
        """
        return self._batches(step_range(start_step, stop_step))

    def _batches(self, steps: range) -> Iterator[PairBatch]:
        workers, frames = self.settings.loader_workers, self.settings.clips.groups_per_clip + ORDER_FRAMES
        with closing(load_in_order(self._request, steps, workers)) as requests:  # type: ignore[type-var]
            source = _Source(requests, self._graph())
            pipeline = frames_pipeline(source.graph, iter(source), self.plan.batch_size * frames, max(1, workers))
            for _ in steps:
                frames_of_batch = self._run(pipeline, source)
                yield self._assemble(frames_of_batch, source.pending.popleft())

    def _graph(self) -> FramesGraph:
        first = self.store.scan(int(self.plan.clips.scan[0])).manifest
        pixels, crop = self.settings.frame_pixels, self.settings.augment.crop_fraction
        grid = crop_grid(first.frame_pixels, pixels, crop)
        device_id = None if self.device.type == "cpu" else self.device.index or 0
        return FramesGraph(first.codec, first.frame_pixels, pixels, grid, device_id)

    def _request(self, step: int) -> _Request:
        """The pipeline's input for one step, the pairs' frames first."""
        planned = self.plan.batch_at(step)
        encoded = [
            frame
            for scans, seconds in planned_frame_times(planned)
            for scan, frames in locate_frames(self.store, scans, seconds)
            for frame in scan.read_encoded(frames)
        ]
        drawn = draw_pair_augmentation(planned, self.settings.augment)
        params = AugmentParams(*(np.concatenate(parts) for parts in zip(*drawn, strict=True)))
        return _Request(step, planned, encoded, params)

    def _run(self, pipeline: Any, source: "_Source") -> Tensor:
        """Return the next batch's frames [n, 1, P, P] on `device`; DALI continues with later batches meanwhile."""
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        try:
            (output,) = pipeline.run(stream)
        except StopIteration:
            assert source.error is not None
            raise source.error from None
        except RuntimeError as error:
            request = source.pending[0]
            read_pairs(self.store, request.planned, self.settings)  # raises an error that names the scan and frame
            raise DataError(f"loading step {request.step}: DALI: {str(error).splitlines()[0]}") from None
        frames: Tensor = from_dlpack(output.as_tensor()).clone()  # DALI reuses its memory
        return frames.permute(0, 3, 1, 2).contiguous()

    def _assemble(self, frames: Tensor, request: _Request) -> PairBatch:
        pairs = self.settings.clips.groups_per_clip * len(request.planned.clip)
        return assemble_batch(self.store, request.planned, self.settings, frames[:pairs], frames[pairs:])


class _Source:
    """Iterates over requests for DALI, which reads some ahead; an error is kept until its batch is due."""

    def __init__(self, requests: Iterator[_Request], graph: FramesGraph) -> None:
        self.graph = graph
        self.pending: deque[_Request] = deque()
        self.error: Exception | None = None
        self._requests = requests

    def __iter__(self) -> Iterator[PipelineInputs]:
        try:
            for request in self._requests:
                self.pending.append(request)
                yield pipeline_inputs(request.encoded, request.params, self.graph)
        except Exception as error:
            self.error = error
