"""The sampling plan: sample g of epoch e as a pure function of (seed, e, g)."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from usvs.data.clip_order import ClipOrder
from usvs.data.order_sampling import FRAME_ORDERS, ORDER_FRAMES, order_frame_seconds, shuffle_frames
from usvs.data.pair_sampling import (
    BoolArray,
    SpeechSources,
    choose_negative,
    choose_speech_source,
    draw_frame_seconds,
    draw_speech_starts,
    find_speech_sources,
    has_usable_speech,
    negative_candidates,
)
from usvs.errors import ConfigError, DataError
from usvs.losses.settings import ObjectiveSettings
from usvs.store.clips import ClipTable
from usvs.store.settings import ClipSettings
from usvs.utils.permutation import (
    Float64Array,
    Int64Array,
    UInt64Array,
    counter_below,
    counter_bits,
    counter_uniform,
    derive_key,
)

# One stream of random numbers per drawn quantity; a new one takes a new number, so that the others do not change.
PERMUTATION, FRAME, SPEECH, NEGATIVE_CLIP, NEGATIVE_SPEECH, ORDER, ORDER_PHASE, ORDER_JITTER = range(8)
AUGMENT, SHUFFLED_SPEECH, RESAMPLE = range(8, 11)
RESAMPLE_TRIES = 32  # if a third of the clips form valid pairs, one sample in half a million keeps its invalid pair


class PlanBatch(NamedTuple):
    """Scans and times of B samples with K pairs each; what cannot be drawn has scan -1 and NaN seconds.

    Attributes:
        clip: [B] int64 row of the clip in the plan's table; its frames are used for the order task.
        scan: [B] int32 its scan.
        pair_clip: [B] int64 row of the clip of the pairs: the same, or another with `resample_invalid_pairs`.
        pair_scan: [B] int32 its scan.
        frame_seconds: [B, K] float64 times of the pairs' frames, in [start, start + clip_seconds).
        speech_scan: [B, K] int32 scan of the positive speech: `pair_scan`, another in the control, -1 without sound.
        speech_start_seconds: [B, K] float64.
        negative_scan: [B, K] int32 scan of the hard negative, -1 where no clip with sound is near.
        negative_start_seconds: [B, K] float64.
        pair_valid: [B] bool, whether the pairs count in Eq. 1 and Eq. 2.
        order_seconds: [B, 4] float64 in the order shown.
        order_class: [B] int64 in 0 .. 11.
        order_valid: [B] bool, whether the clip is used for the order task: evenly, `order_fraction` of the samples.
        augment_key: [B] uint64 key of the sample's augmentation.
    """

    clip: Int64Array
    scan: npt.NDArray[np.int32]
    pair_clip: Int64Array
    pair_scan: npt.NDArray[np.int32]
    frame_seconds: Float64Array
    speech_scan: npt.NDArray[np.int32]
    speech_start_seconds: Float64Array
    negative_scan: npt.NDArray[np.int32]
    negative_start_seconds: Float64Array
    pair_valid: BoolArray
    order_seconds: Float64Array
    order_class: Int64Array
    order_valid: BoolArray
    augment_key: UInt64Array


@dataclass(frozen=True, eq=False)
class SamplingPlan:
    """The samples of every epoch, without state: sample g of epoch e depends on (seed, e, g) and the table only.

    Each epoch visits every clip once, in an order of its own (`ClipOrder`). Batches are consecutive parts of it; an
    incomplete last batch is dropped (other clips in each epoch).

    Attributes:
        clips: the clips to sample from.
        settings: how pairs and order frames are drawn.
        objective: `affinity` decides which clips form pairs, `resample_invalid_pairs` whether a clip that forms none is
            replaced by one that does, `speech` whether a frame is paired with speech of its own scan, `order_fraction`
            how many clips are used for the order task.
        seed: of the run.
        batch_clips: clips per global batch; a table with fewer gives batches of all its clips.

    Raises:
        DataError: for an empty table, or one with too little speech for the shuffled control.
        ConfigError: for batches below one clip.
    """

    clips: ClipTable
    settings: ClipSettings
    objective: ObjectiveSettings
    seed: int
    batch_clips: int

    def __post_init__(self) -> None:
        if self.batch_clips < 1:
            raise ConfigError(f"batch_clips: expected at least 1, got {self.batch_clips}")
        if not len(self.clips):
            raise DataError("clip table: expected at least one clip to sample from, got an empty table")
        if self.objective.speech == "shuffled":
            _ = self._speech_sources  # raises here rather than at the first batch

    @property
    def batch_size(self) -> int:
        """Clips in every global batch."""
        return min(self.batch_clips, len(self.clips))

    @property
    def steps_per_epoch(self) -> int:
        """Complete batches in an epoch, at least one."""
        return len(self.clips) // self.batch_size

    def batch(self, epoch: int, step: int) -> PlanBatch:
        """Return batch `step` of an epoch.

        Raises:
            ConfigError: for a step outside 0 .. steps_per_epoch - 1, or a negative epoch.
        """
        if epoch < 0 or not 0 <= step < self.steps_per_epoch:
            raise ConfigError(
                f"batch: expected an epoch >= 0 and a step in 0 .. {self.steps_per_epoch - 1}, got {epoch}, {step}"
            )
        return self.samples(epoch, np.arange(step * self.batch_size, (step + 1) * self.batch_size))

    def batch_at(self, global_step: int) -> PlanBatch:
        """Return the batch of a run's step, counted over epochs."""
        return self.batch(*divmod(global_step, self.steps_per_epoch))

    def samples(self, epoch: int, numbers: npt.ArrayLike) -> PlanBatch:
        """Return samples of an epoch by number, each in 0 .. n - 1, in the given order."""
        g = np.atleast_1d(np.asarray(numbers, dtype=np.int64))
        draw = _Draws(derive_key(self.seed, epoch), g, self.settings.groups_per_clip)
        rows = self._order.rows(g, derive_key(draw.key, PERMUTATION))
        scan, start = self.clips.scan[rows], self.clips.start_seconds[rows]
        pairs = self._pair_clips(rows, draw)
        source, negative, pair_valid = self._speech_clips(pairs, draw)
        chronological = order_frame_seconds(
            start, draw.one(ORDER_PHASE), draw.several(ORDER_JITTER, ORDER_FRAMES), self.settings
        )
        fraction = self.objective.order_fraction
        order = counter_below(draw.key, g, ORDER, len(FRAME_ORDERS))
        order_seconds, order_class = shuffle_frames(chronological, order)
        return PlanBatch(
            rows,
            scan,
            pairs,
            self.clips.scan[pairs],
            draw_frame_seconds(self.clips.start_seconds[pairs], draw.groups(FRAME), self.settings),
            *self._pieces(source, draw.groups(SPEECH)),
            *self._pieces(negative, draw.groups(NEGATIVE_SPEECH)),
            pair_valid,
            order_seconds,
            order_class,
            np.floor((g + 1) * fraction) > np.floor(g * fraction),
            counter_bits(draw.key, g, AUGMENT),
        )

    def _pair_clips(self, rows: Int64Array, draw: "_Draws") -> Int64Array:
        """Rows of the clips that form the pairs [B]."""
        if not self.objective.resample_invalid_pairs:
            return rows
        invalid = np.flatnonzero(~self._forms_valid_pair(rows))
        # Rejection sampling rather than a list of all clips with valid pairs: the list would grow with the archive.
        uniform = _Draws(draw.key, draw.g[invalid], draw.group_count).several(RESAMPLE, RESAMPLE_TRIES)
        tried: Int64Array = np.floor(uniform * len(self.clips)).astype(np.int64)
        if self.objective.scan_run_clips > 1:  # of the same scan where it has one
            half = RESAMPLE_TRIES // 2
            tried[:, :half] = self._order.row_of_scan(rows[invalid], uniform[:, :half])
        valid = self._forms_valid_pair(tried.ravel()).reshape(tried.shape)
        first = tried[np.arange(len(invalid)), valid.argmax(axis=1)]
        pairs = rows.copy()
        pairs[invalid] = np.where(valid.any(axis=1), first, rows[invalid])
        return pairs

    def _forms_valid_pair(self, rows: Int64Array) -> BoolArray:
        """Whether each clip has usable speech and a hard negative near it."""
        near = (negative_candidates(self.clips, rows, self.settings) >= 0).any(axis=1)
        return has_usable_speech(self.clips, rows, self.settings, self.objective.affinity) & near

    def _speech_clips(self, rows: Int64Array, draw: "_Draws") -> tuple[Int64Array, Int64Array, BoolArray]:
        """Rows of the clips of the positive and the hard-negative speech [B] (-1: none), and which pairs are valid."""
        which = draw.one(NEGATIVE_CLIP)
        negative = choose_negative(negative_candidates(self.clips, rows, self.settings), which)
        pair_valid = has_usable_speech(self.clips, rows, self.settings, self.objective.affinity) & (negative >= 0)
        if self.objective.speech == "own":
            return np.where(np.isnan(self.clips.speech_fraction[rows]), -1, rows), negative, pair_valid
        # The negative is near the positive in the same other scan: speech then has the same distribution as in a real
        # run, and what a network can predict from speech alone it can predict in both.
        source = choose_speech_source(self._speech_sources, self.clips.scan[rows], draw.one(SHUFFLED_SPEECH))
        return source, choose_negative(negative_candidates(self.clips, source, self.settings), which), pair_valid

    def _pieces(self, rows: Int64Array, uniform: Float64Array) -> tuple[npt.NDArray[np.int32], Float64Array]:
        """Scan and start [B, K] of one piece of speech per group, in the clips `rows` [B]."""
        exists = (rows >= 0)[:, None]
        start = draw_speech_starts(self.clips.start_seconds[rows], uniform, self.settings)
        scan = np.broadcast_to(self.clips.scan[rows][:, None], uniform.shape)
        return np.where(exists, scan, -1).astype(np.int32), np.where(exists, start, np.nan)

    @cached_property
    def _order(self) -> ClipOrder:
        return ClipOrder(self.clips, self.objective.scan_run_clips)

    @cached_property
    def _speech_sources(self) -> SpeechSources:
        return find_speech_sources(self.clips, self.settings, self.objective.affinity)


class _Draws(NamedTuple):
    """Uniform numbers in [0, 1) for samples g [B] of an epoch."""

    key: int
    g: Int64Array
    group_count: int

    def one(self, stream: int) -> Float64Array:
        """One number per sample: [B]."""
        return counter_uniform(self.key, self.g, stream)

    def several(self, stream: int, count: int) -> Float64Array:
        """Several numbers per sample: [B, count]."""
        return counter_uniform(self.key, self.g[:, None] * count + np.arange(count), stream)

    def groups(self, stream: int) -> Float64Array:
        """One number for each of a sample's groups: [B, K]."""
        return self.several(stream, self.group_count)
