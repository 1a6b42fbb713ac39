"""The loader of pretraining that decodes clips from the archive's H.264 on a GPU: nothing but speech is prepared.

The samples are those of `PairLoader`: the same clips, moments and augmentation. The gray levels differ by some, see
`usvs.data.dali_video`. Each clip is decoded from the keyframe before its first frame, so that a sample costs tens of
frames instead of six: to be preferred to a prepared store only where the disk has no space for one.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usvs.data.dali_video import VideoClip, decode_clips, find_videos
from usvs.data.order_sampling import ORDER_FRAMES
from usvs.data.pair_batch import (
    PairBatch,
    assemble_batch,
    draw_pair_augmentation,
    locate_frames,
    planned_frame_times,
)
from usvs.data.prefetch import step_range
from usvs.data.sampling_plan import PlanBatch
from usvs.data.torch_loader import PairLoader
from usvs.data.transforms import transform_frames
from usvs.errors import DataError, ResourceError
from usvs.models.preprocessing import AugmentParams

CLIPS_OF_PIPELINE = 1 << 15  # DALI reads the list of a pipeline's clips when it is built
Videos = Mapping[int, tuple[Path, tuple[int, int, int, int]]]
Decode = Callable[[list[VideoClip], int, int, torch.device], Iterator[Tensor]]


class _Request(NamedTuple):
    """The frames of one clip that a batch needs: their numbers in the decoded sequence [k]."""

    clip: VideoClip
    frames: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DaliVideoPairLoader(PairLoader):
    """Decodes the frames of a plan's clips with NVDEC; speech, times and boxes come from the prepared store.

    Attributes:
        device: a GPU, where frames are decoded and stay.
        decode: yields the frames of clips [b, F, S, S] in order; for tests.
    """

    device: torch.device
    decode: Decode = decode_clips

    def batch(self, step: int) -> PairBatch:
        """Return the batch of one step; builds a pipeline each time, so use `batches` for more than one."""
        with closing(self.batches(step, step + 1)) as batches:  # type: ignore[type-var]
            return next(batches)

    def batches(self, start_step: int, stop_step: int) -> Iterator[PairBatch]:
        """Iterate over the batches of steps start_step .. stop_step - 1; DALI decodes some clips ahead.

        Raises:
            ConfigError: at once, for an invalid range.
            DataError: for a scan that is no complete H.264 video or is shorter than a clip.
            MissingDependencyError: where DALI is not installed.
        """
        return self._batches(step_range(start_step, stop_step))

    def _batches(self, steps: range) -> Iterator[PairBatch]:
        scans: list[int] = np.unique(self.plan.clips.scan).tolist()
        videos, length = find_videos(self.store, scans), self._sequence_length(scans)
        at_once = max(1, CLIPS_OF_PIPELINE // (2 * self.plan.batch_size))
        for first in range(0, len(steps), at_once):
            planned = [self.plan.batch_at(step) for step in steps[first : first + at_once]]
            requests = [list(self._requests(one, videos, length)) for one in planned]
            clips = [request.clip for one in requests for request in one]
            side = self.store.scan(int(self.plan.clips.scan[0])).frame_pixels
            decoded = chain.from_iterable(self.decode(clips, side, self.plan.batch_size, self.device))
            for one, of_batch in zip(planned, requests, strict=True):
                frames = [
                    pictures[torch.from_numpy(request.frames).to(pictures.device)]
                    for request, pictures in zip(of_batch, islice(decoded, len(of_batch)), strict=True)
                ]
                yield self._assemble(torch.cat(frames), one)

    def _sequence_length(self, scans: list[int]) -> int:
        """The most frames that a clip of any scan has: DALI decodes sequences of one length."""
        span, most, shortest = self.settings.clips.clip_seconds, 0, scans[0]
        for number in scans:
            times = self.store.scan(number).frame_seconds
            inside = np.searchsorted(times, times + span) - np.arange(len(times))
            most = max(most, int(inside.max()) + 1)  # the frame nearest to the end of a clip may be after it
            if len(times) < len(self.store.scan(shortest).frame_seconds):
                shortest = number
        if (count := len(self.store.scan(shortest).frame_seconds)) < most:
            raise DataError(
                f"scan {self.store.scans[shortest]}: run.loader 'dali-video' decodes as many frames of each scan as a"
                f" clip has: expected at least {most}, got {count}; use --loader torch"
            )
        return most

    def _requests(self, planned: PlanBatch, videos: Videos, length: int) -> Iterator[_Request]:
        """What is decoded for a batch, the pairs' clips first."""
        for scans, seconds in planned_frame_times(planned):
            for number, (scan, frames) in zip(scans.tolist(), locate_frames(self.store, scans, seconds), strict=True):
                first = min(int(frames.min()), len(scan.frame_seconds) - length)
                path, box = videos[number]
                yield _Request(VideoClip(path, first, first + length, box), frames - first)

    def _assemble(self, frames: Tensor, planned: PlanBatch) -> PairBatch:
        settings = self.settings
        drawn = draw_pair_augmentation(planned, settings.augment)
        params = AugmentParams(*(np.concatenate(parts) for parts in zip(*drawn, strict=True)))
        augmented = transform_frames(frames, params, settings.frame_pixels, settings.augment.crop_fraction)
        pairs = settings.clips.groups_per_clip * len(planned.clip)
        assert len(frames) == pairs + ORDER_FRAMES * int(planned.order_valid.sum())
        return assemble_batch(self.store, planned, settings, augmented[:pairs], augmented[pairs:])


def check_video_device(device: torch.device) -> None:
    """Check that clips can be decoded on a device.

    Raises:
        ResourceError: where it is no CUDA device.
    """
    if device.type != "cuda":
        raise ResourceError(
            "run.loader 'dali-video': expected a CUDA device, since DALI decodes H.264 on a GPU only, got"
            f" '{device.type}'; use --loader torch or --loader dali"
        )
