"""What each batch is made of: sample g of epoch e as a pure function of (seed, e, g)."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from usvs.data.order_sampling import ORDER_FRAMES, SHOWN_ORDERS, chronological_seconds, shuffle_frames
from usvs.data.pair_sampling import (
    BoolArray,
    Donors,
    choose_donor,
    choose_negative,
    find_donors,
    frame_moments,
    negative_candidates,
    piece_starts,
    speaks,
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
    permute,
)

# One stream of random numbers for each thing drawn; a new draw takes a new number, so that the old ones stay.
PERMUTATION, FRAME, SPEECH, NEGATIVE_CLIP, NEGATIVE_SPEECH, ORDER, ORDER_PHASE, ORDER_JITTER = range(8)
AUGMENT, DONOR, REFILL = range(8, 11)
REFILL_TRIES = 32  # where a third of the clips make pairs, one place in half a million stays as it is


class PlanBatch(NamedTuple):
    """Times to read for B clips with K pairs each; what cannot be drawn has scan -1 and NaN seconds.

    Attributes:
        clip: [B] int64 row of the clip in the plan's table; it shows the order task.
        scan: [B] int32 its scan.
        pair_clip: [B] int64 row of the clip that makes the pairs: the same, or under `resample_invalid_pairs` another.
        pair_scan: [B] int32 its scan.
        frame_seconds: [B, K] float64 the frames of the pairs, in [start, start + clip_seconds).
        speech_scan: [B, K] int32 whose speech is the positive: `pair_scan`, another in the control, -1 without sound.
        speech_start_seconds: [B, K] float64.
        negative_scan: [B, K] int32 whose speech is the hard negative, -1 where no clip with sound is near.
        negative_start_seconds: [B, K] float64.
        pair_valid: [B] bool whether the pairs count in Eq. 1 and Eq. 2.
        order_seconds: [B, 4] float64 in the order shown.
        order_class: [B] int64 in 0 .. 11.
        order_valid: [B] bool whether the clip shows the order task: evenly, `order_fraction` of an epoch's samples.
        augment_key: [B] uint64 what all variation of the sample is drawn from.
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
class Plan:
    """The samples of every epoch, without state: sample g of epoch e depends on (seed, e, g) and the table only.

    Each epoch goes through the clips in its own order, every clip once. Batches are cut from that order; where the
    number of clips is no multiple of the batch, the rest of the epoch is dropped (other clips each time).

    Attributes:
        clips: what is drawn from.
        settings: how pairs and order frames are drawn.
        objective: `affinity` decides which clips make pairs, `resample_invalid_pairs` whether another takes the place of one that
            makes none, `speech` whether it is their own.
        seed: of the run.
        batch_clips: clips a batch; a table with fewer gives batches of all its clips.

    Raises:
        DataError: for an empty table, or one that the shuffled control cannot use.
        ConfigError: for a batch below one clip.
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
            raise DataError("nothing to sample: the clip table is empty")
        if self.objective.speech == "shuffled":
            _ = self._donors  # complains now rather than at the first batch

    @property
    def batch_size(self) -> int:
        """Clips in every batch."""
        return min(self.batch_clips, len(self.clips))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch, at least one."""
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
        """Return the samples with these numbers, each in 0 .. n - 1, of an epoch; any of them, in any order."""
        g = np.atleast_1d(np.asarray(numbers, dtype=np.int64))
        draw = _Draws(derive_key(self.seed, epoch), g, self.settings.groups_per_clip)
        rows = permute(g, len(self.clips), derive_key(draw.key, PERMUTATION))
        scan, start = self.clips.scan[rows], self.clips.start_seconds[rows]
        pairs = self._pair_clips(rows, draw)
        source, negative, pair_valid = self._speech_clips(pairs, draw)
        chronological = chronological_seconds(
            start, draw.one(ORDER_PHASE), draw.several(ORDER_JITTER, ORDER_FRAMES), self.settings
        )
        share = self.objective.order_fraction
        order = counter_below(draw.key, g, ORDER, len(SHOWN_ORDERS))
        order_seconds, order_class = shuffle_frames(chronological, order)
        return PlanBatch(
            rows,
            scan,
            pairs,
            self.clips.scan[pairs],
            frame_moments(self.clips.start_seconds[pairs], draw.groups(FRAME), self.settings),
            *self._pieces(source, draw.groups(SPEECH)),
            *self._pieces(negative, draw.groups(NEGATIVE_SPEECH)),
            pair_valid,
            order_seconds,
            order_class,
            np.floor((g + 1) * share) > np.floor(g * share),
            counter_bits(draw.key, g, AUGMENT),
        )

    def _pair_clips(self, rows: Int64Array, draw: "_Draws") -> Int64Array:
        """Rows of the clips that make the pairs [B]."""
        if not self.objective.resample_invalid_pairs:
            return rows
        lacking = np.flatnonzero(~self._makes_pair(rows))
        # Drawn until one will do rather than from a list of all that would: that list grows with the archive.
        uniform = _Draws(draw.key, draw.g[lacking], draw.group_count).several(REFILL, REFILL_TRIES)
        tried: Int64Array = np.floor(uniform * len(self.clips)).astype(np.int64)
        will_do = self._makes_pair(tried.ravel()).reshape(tried.shape)
        first = tried[np.arange(len(lacking)), will_do.argmax(axis=1)]
        pairs = rows.copy()
        pairs[lacking] = np.where(will_do.any(axis=1), first, rows[lacking])
        return pairs

    def _makes_pair(self, rows: Int64Array) -> BoolArray:
        """Whether each clip's own speech counts and there is a hard negative near."""
        near = (negative_candidates(self.clips, rows, self.settings) >= 0).any(axis=1)
        return speaks(self.clips, rows, self.settings, self.objective.affinity) & near

    def _speech_clips(self, rows: Int64Array, draw: "_Draws") -> tuple[Int64Array, Int64Array, BoolArray]:
        """Rows of the clips that lend the positive and the hard negative [B] (-1: none), and which pairs count."""
        which = draw.one(NEGATIVE_CLIP)
        negative = choose_negative(negative_candidates(self.clips, rows, self.settings), which)
        pair_valid = speaks(self.clips, rows, self.settings, self.objective.affinity) & (negative >= 0)
        if self.objective.speech == "own":
            return np.where(np.isnan(self.clips.speech_fraction[rows]), -1, rows), negative, pair_valid
        # The donor's own neighbour is its negative: the control's speech is then distributed as the real run's is,
        # and what a network could tell from speech alone it can tell in both.
        donor = choose_donor(self._donors, self.clips.scan[rows], draw.one(DONOR))
        return donor, choose_negative(negative_candidates(self.clips, donor, self.settings), which), pair_valid

    def _pieces(self, rows: Int64Array, uniform: Float64Array) -> tuple[npt.NDArray[np.int32], Float64Array]:
        """Scan and start [B, K] of one piece a group in the clips `rows` [B]."""
        there = (rows >= 0)[:, None]
        start = piece_starts(self.clips.start_seconds[rows], uniform, self.settings)
        scan = np.broadcast_to(self.clips.scan[rows][:, None], uniform.shape)
        return np.where(there, scan, -1).astype(np.int32), np.where(there, start, np.nan)

    @cached_property
    def _donors(self) -> Donors:
        return find_donors(self.clips, self.settings, self.objective.affinity)


class _Draws(NamedTuple):
    """Uniform numbers in [0, 1) for samples g [B] of an epoch."""

    key: int
    g: Int64Array
    group_count: int

    def one(self, stream: int) -> Float64Array:
        """One number a sample: [B]."""
        return counter_uniform(self.key, self.g, stream)

    def several(self, stream: int, count: int) -> Float64Array:
        """Some numbers a sample: [B, count]."""
        return counter_uniform(self.key, self.g[:, None] * count + np.arange(count), stream)

    def groups(self, stream: int) -> Float64Array:
        """One number for each of a sample's groups: [B, K]."""
        return self.several(stream, self.group_count)
