"""The loader of pretraining by NVIDIA DALI: the batches of `PairLoader`, decoded and varied by a DALI graph."""

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from usvs.data.dali_frames import Arrays, Fed, FramesGraph, fed, frames_pipeline
from usvs.data.order_sampling import ORDER_FRAMES
from usvs.data.pair_batch import (
    PairBatch,
    gather_pairs,
    pair_variations,
    planned_frames,
    planned_moments,
    read_pairs,
)
from usvs.data.prefetch import checked_steps, load_in_order
from usvs.data.sampling_plan import Plan, PlanBatch
from usvs.data.transforms import crop_grid
from usvs.errors import DataError
from usvs.models.preprocessing import AugmentParams
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.settings import PretrainSettings


class _Request(NamedTuple):
    step: int
    planned: PlanBatch
    encoded: Arrays
    variation: AugmentParams


@dataclass(frozen=True, eq=False)
class DaliPairLoader:
    """Loads the batches a plan names, as `PairLoader` does: bit-equal on the CPU, see `usvs.data.dali_frames`.

    Attributes:
        store: the prepared scans; the plan's scan numbers are its.
        plan: what each step is made of.
        settings: piece length, frame size, augmentation and `run.loader_workers`.
        device: where frames are decoded and stay: the CPU or a GPU.
    """

    store: PreparedStore
    plan: Plan
    settings: PretrainSettings
    device: torch.device

    def batch(self, step: int) -> PairBatch:
        """Return the batch of one step; builds a pipeline for it, so ask for many by `batches`."""
        with closing(self.batches(step, step + 1)) as batches:  # type: ignore[type-var]
            return next(batches)

    def batches(self, start_step: int, stop_step: int) -> Iterator[PairBatch]:
        """Iterate over the batches of steps start_step .. stop_step - 1; arguments and errors as of `PairLoader`.

        Raises:
            MissingDependencyError: where DALI is not installed.
        """
        return self._batches(checked_steps(start_step, stop_step))

    def _batches(self, steps: range) -> Iterator[PairBatch]:
        run, frames = self.settings.run, self.settings.clips.groups_per_clip + ORDER_FRAMES
        with closing(load_in_order(self._request, steps, run.loader_workers)) as requests:  # type: ignore[type-var]
            source = _Source(requests, self._graph())
            pipeline = frames_pipeline(
                source.graph, iter(source), self.plan.batch_size * frames, max(1, run.loader_workers)
            )
            for _ in steps:
                frames_of_batch = self._run(pipeline, source)
                yield self._finished(frames_of_batch, source.under_way.popleft())

    def _graph(self) -> FramesGraph:
        first = self.store.scan(int(self.plan.clips.scan[0])).manifest
        pixels, crop = self.settings.model.frame_pixels, self.settings.augment.crop_fraction
        grid = crop_grid(first.frame_pixels, pixels, crop)
        device_id = None if self.device.type == "cpu" else self.device.index or 0
        return FramesGraph(first.codec, first.frame_pixels, pixels, grid, device_id)

    def _request(self, step: int) -> _Request:
        """What DALI needs of a step, the pairs' frames first."""
        planned = self.plan.batch_at(step)
        encoded = [
            frame
            for scans, seconds in planned_moments(planned)
            for scan, frames in planned_frames(self.store, scans, seconds)
            for frame in scan.read_encoded(frames)
        ]
        of_pairs, of_order = pair_variations(planned, self.settings.augment)
        both = AugmentParams(*(np.concatenate(parts) for parts in zip(of_pairs, of_order, strict=True)))
        return _Request(step, planned, encoded, both)

    def _run(self, pipeline: Any, source: "_Source") -> Tensor:
        """Return the next batch's frames [n, 1, P, P] on `device`; DALI goes on with those after it."""
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        try:
            (output,) = pipeline.run(stream)
        except StopIteration:
            assert source.error is not None
            raise source.error from None
        except RuntimeError as error:
            request = source.under_way[0]
            read_pairs(self.store, request.planned, self.settings)  # says which scan and frame it is
            raise DataError(f"loading step {request.step}: DALI: {str(error).splitlines()[0]}") from None
        frames: Tensor = from_dlpack(output.as_tensor()).clone()  # DALI uses its memory again
        return frames.permute(0, 3, 1, 2).contiguous()

    def _finished(self, frames: Tensor, request: _Request) -> PairBatch:
        pairs = self.settings.clips.groups_per_clip * len(request.planned.clip)
        return gather_pairs(self.store, request.planned, self.settings, frames[:pairs], frames[pairs:])


class _Source:
    """Hands requests to DALI, some ahead of the batch that is waited for; an error waits for its turn."""

    def __init__(self, requests: Iterator[_Request], graph: FramesGraph) -> None:
        self.graph = graph
        self.under_way: deque[_Request] = deque()
        self.error: Exception | None = None
        self._requests = requests

    def __iter__(self) -> Iterator[Fed]:
        try:
            for request in self._requests:
                self.under_way.append(request)
                yield fed(request.encoded, request.variation, self.graph)
        except Exception as error:
            self.error = error
