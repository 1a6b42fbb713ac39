"""Labelled frames and pieces of speech of a store, drawn as pretraining draws them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usvs.archive.interval_labels import UNLABELLED, IntervalLabels, read_interval_labels
from usvs.data.pair_sampling import draw_frame_seconds, draw_speech_starts, has_usable_speech
from usvs.data.transforms import evaluation_frames, training_frames
from usvs.data.validation_split import PatientSplit
from usvs.errors import DataError
from usvs.store.catalogue import Catalogue
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.utils.permutation import UInt64Array
from usvs.utils.progress import track

FROM_STORE = "store"  # labels: those of frames that the store has
SEED = 0xCE11
TRAIN_SAMPLES, TEST_SAMPLES = 6000, 2000  # drawn; those without a label are left out

Reader = Callable[[NDArray[np.int64], UInt64Array | None], Tensor]


class LabelSource(NamedTuple):
    """Labels of a store at any time of its scans.

    Attributes:
        names: of the labels.
        at: scan number and times [k] in, numbers of labels [k] out, -1 where there is none.
    """

    names: tuple[str, ...]
    at: Callable[[int, NDArray[np.float64]], NDArray[np.int64]]


class Samples(NamedTuple):
    """Labelled times of a store's scans: scan [n] int64, seconds [n] (frame or start of speech) and label [n] int64."""

    scan: NDArray[np.int64]
    seconds: NDArray[np.float64]
    label: NDArray[np.int64]


def open_labels(store: PreparedStore, labels: str | Path) -> LabelSource:
    """Return the labels of a store.

    Args:
        store: the prepared scans.
        labels: what `usvs.archive.interval_labels.read_interval_labels` reads, or `FROM_STORE`: the labels of frames
            that the archive had when it was prepared.

    Raises:
        DataError: where there are none, or they cannot be read.
    """
    if str(labels) == FROM_STORE:
        return _store_labels(store)
    path_of = Catalogue.load(store.store).paths
    paths = [path_of[key] for key in store.scans]
    read: IntervalLabels = read_interval_labels(Path(labels), paths, set(path_of.values()).difference(paths))

    def at(scan: int, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        known = read.scans.get(scan)
        return np.full(len(seconds), UNLABELLED) if known is None else known.at(seconds)

    return LabelSource(read.names, at)


def _store_labels(store: PreparedStore) -> LabelSource:
    most = -1
    for number in track(range(len(store.scans)), "reading labels"):
        planes = store.scan(number).planes
        most = max(most, -1 if planes is None or not len(planes) else int(planes.max()))
    if most < 0:
        raise DataError(
            f"store '{store.store}' has no labels: expected labels in the archive when it was indexed, got none; give"
            " a csv file of intervals instead"
        )

    def at(scan: int, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        opened = store.scan(scan)
        if opened.planes is None:
            return np.full(len(seconds), UNLABELLED)
        return opened.planes[opened.nearest_frames(seconds)].astype(np.int64)

    return LabelSource(tuple(str(code) for code in range(most + 1)), at)


def clip_rows(store: PreparedStore, settings: PretrainSettings, with_speech: bool) -> NDArray[np.int64]:
    """Return the rows of all clips, or of those with enough speech."""
    rows = np.arange(len(store.clips), dtype=np.int64)
    return rows[has_usable_speech(store.clips, rows, settings.clips, affinity=True)] if with_speech else rows


def draw_samples(
    store: PreparedStore,
    settings: PretrainSettings,
    split: PatientSplit,
    labels: LabelSource,
    patients: tuple[str, ...],
    speech_rows: NDArray[np.int64] | None,
) -> Samples:
    """Draw labelled times of some patients, as pretraining draws them: of frames, or of pieces of speech.

    Args:
        store: the prepared scans.
        settings: of clips and pieces.
        split: training patients and others; each side has draws of its own.
        labels: of the store.
        patients: whose clips, one side of `split`.
        speech_rows: clips to draw pieces of speech from; None: frames of all clips.
    """
    rows = clip_rows(store, settings, with_speech=False) if speech_rows is None else speech_rows
    rows = rows[split.clips_of(patients, store.clips.scan[rows])]
    if not len(rows):
        return Samples(np.zeros(0, np.int64), np.zeros(0, np.float64), np.zeros(0, np.int64))
    side = patients == split.train
    random = np.random.default_rng((SEED, int(side), int(speech_rows is None)))
    chosen = np.sort(rows[random.integers(0, len(rows), TRAIN_SAMPLES if side else TEST_SAMPLES)])
    uniform, start = random.random((len(chosen), 1)), store.clips.start_seconds[chosen]
    draw = draw_frame_seconds if speech_rows is None else draw_speech_starts
    seconds = draw(start, uniform, settings.clips)[:, 0]
    middle = 0.0 if speech_rows is None else settings.clips.speech_seconds / 2
    scan = store.clips.scan[chosen].astype(np.int64)
    label = np.full(len(chosen), UNLABELLED, np.int64)
    for number in np.unique(scan).tolist():
        own = scan == number
        label[own] = labels.at(number, seconds[own] + middle)
    known = label != UNLABELLED
    return Samples(scan[known], seconds[known], label[known])


def read_frames(store: PreparedStore, samples: Samples, settings: PretrainSettings) -> Reader:
    """Read all frames; the result makes inputs of some of them, augmented where it gets bits."""
    parts = []
    for number in track(np.unique(samples.scan).tolist(), "reading labelled frames"):
        scan = store.scan(number)
        parts.append(scan.frames(scan.nearest_frames(samples.seconds[samples.scan == number])))
    frames, pixels, augment = np.concatenate(parts), settings.model.frame_pixels, settings.augment

    def read(rows: NDArray[np.int64], bits: UInt64Array | None) -> Tensor:
        if bits is None:
            return evaluation_frames(frames[rows], pixels, augment)
        return training_frames(frames[rows], bits, pixels, augment)

    return read


def read_speech(store: PreparedStore, samples: Samples, settings: PretrainSettings) -> Reader:
    """Read all pieces of speech; the result makes inputs of some of them."""
    length = round(settings.clips.speech_seconds * settings.spectrogram.rate_hz)
    pieces = np.stack([
        store.scan(scan).speech(start, length)
        for scan, start in zip(samples.scan.tolist(), samples.seconds.tolist(), strict=True)
    ])  # fmt: skip
    return lambda rows, bits: torch.from_numpy(pieces[rows].astype(np.float32) / 32768)
