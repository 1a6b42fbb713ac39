"""What a report shows of a pretrained network: measured once with the store, kept in the run folder, drawn from there.

The file has small pictures and embeddings of some clips, their keys and labels, and what the diagnosis found. So a
report can be drawn again at any time, also where the store is not at hand.
"""

import io
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from usvs.archive.class_list import UNLABELLED
from usvs.audio.spectrogram import LogSpectrogram
from usvs.errors import ConfigError, DataError
from usvs.report.pictures import spectrogram_pixels
from usvs.report.scan_labels import ScanLabels, open_scan_labels
from usvs.report.shown_scans import pictured_scans
from usvs.store.clips import ClipTable
from usvs.store.prepared import PreparedStore
from usvs.tasks.diagnosis.contents import pair_mask
from usvs.tasks.diagnosis.diagnose import diagnose, split_of_run
from usvs.tasks.diagnosis.losses import RunReading
from usvs.tasks.diagnosis.verdict import Verdict
from usvs.tasks.pretraining.load import load_settings_of_run
from usvs.tasks.pretraining.shared_space import SharedSpace
from usvs.training.checkpoint import load_checkpoint, newest_checkpoint_folder
from usvs.utils.array_files import write_arrays
from usvs.utils.progress import track
from usvs.utils.regular_files import read_regular
from usvs.utils.spacing import evenly_spaced

logger: logging.Logger = logging.getLogger(__name__)

SAMPLES = "report_samples.npz"
MAX_SAMPLES_BYTES = 64 * 2**20
DESCRIPTION = "description"
CLIPS = 128  # as many as the pool of validation
STARTS = 5  # of each clip; its loudest piece of speech is shown
THUMBNAIL = 96  # px
MIN_MAPPED_CLIPS = 8
PERPLEXITY = 20
SEED = 0


@dataclass(frozen=True)
class RunSamples:
    """Clips of one run with their embeddings; n of them, 0 where there is nothing to compare.

    Attributes:
        description: plain values: ``step``, ``patients`` (``unseen`` or ``training``), ``verdict``, ``losses``,
            ``retrieval``, ``streams``, ``label_names``, ``label_colours``, and ``clips``: scan, patient, label number
            and times of each; ``why_not``: why there are no clips.
        frames: [n, T, T] uint8 small frames.
        spectrograms: [n, bands, time] uint8, lowest band at the bottom.
        video: [n, d] embeddings of the frames, as the run compares them.
        speech: [n, d] of a piece of speech of the same clip.
        places: [2n, 2] map of the embeddings, frames first; empty for few clips.
    """

    description: Mapping[str, Any]
    frames: NDArray[np.uint8]
    spectrograms: NDArray[np.uint8]
    video: NDArray[np.float32]
    speech: NDArray[np.float32]
    places: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.video)


def measure_pretraining(
    run: Path,
    store: Path,
    labels: str | Path | None = None,
    reading: RunReading | None = None,
    verdict: Verdict | None = None,
) -> None:
    """Measure what a report shows, and write it to ``RUN/report_samples.npz``.

    Args:
        run: a pretraining run with a checkpoint.
        store: that it was trained on.
        labels: as of `open_scan_labels`.
        reading: of the run; None: it is measured.
        verdict: on the run; None: likewise.

    Raises:
        DataError: for a run or a store that cannot be read, or that do not belong together.
        ConfigError: for a run with an own encoder.
    """
    if reading is None or verdict is None:
        found = diagnose(store, run)
        reading, verdict = found.run, found.verdict
    opened = PreparedStore(store)
    step = int(load_checkpoint(newest_checkpoint_folder(run)).state["step"])
    description = {"step": step, **_describe(reading, verdict)}
    write_arrays(run / SAMPLES, _sample_arrays(run, opened, open_scan_labels(opened, labels), description))


def read_samples(run: Path) -> RunSamples | None:
    """Return what `measure_pretraining` wrote; None where it was not called.

    Raises:
        DataError: for a damaged file.
    """
    file = run / SAMPLES
    if not file.exists():
        return None
    try:
        with np.load(io.BytesIO(read_regular(file, MAX_SAMPLES_BYTES)), allow_pickle=False) as arrays:
            described = json.loads(str(arrays[DESCRIPTION]))
            names = ("frames", "spectrograms", "video", "speech", "places")
            found = RunSamples(described, *(arrays[name] for name in names))
    except Exception as error:  # zipfile and numpy raise many kinds
        raise DataError(f"'{file}': expected what 'usvs report' wrote, got a damaged file ({error})") from None
    if not len(found.frames) == len(found.spectrograms) == len(found.video) == len(found.speech):
        raise DataError(f"'{file}': expected arrays of one length, got others")
    return found


def _describe(reading: RunReading | None, verdict: Verdict) -> dict[str, Any]:
    if reading is None:
        return {"verdict": verdict.text}
    return {
        "verdict": verdict.text,
        "matching": list(reading.matching),
        "losses": [{**asdict(loss), "label": loss.label, "verdict": loss.verdict} for loss in reading.losses],
        "retrieval": dict(reading.retrieval),
        "streams": {name: {**one._asdict(), "collapsed": one.collapsed} for name, one in reading.streams.items()},
    }


def _sample_arrays(
    run: Path, store: PreparedStore, labels: ScanLabels | None, description: dict[str, Any]
) -> dict[str, NDArray[Any]]:
    settings = load_settings_of_run(run)
    split = split_of_run(run, store)
    shown = pictured_scans(store)
    rows = np.flatnonzero(pair_mask(store.clips, settings) & shown[store.clips.scan])
    sides = (("unseen", split.validation), ("training", split.train))
    chosen = {name: rows[split.clips_of(keys, store.clips.scan[rows])] for name, keys in sides}
    patients = "unseen" if len(chosen["unseen"]) > 1 else "training"
    rows = chosen[patients]
    rows = rows[evenly_spaced(len(rows), CLIPS)]  # over all scans
    description |= {"patients": patients, "scans_without_sector": int((~shown).sum())}
    try:
        space = SharedSpace.load(run)
    except ConfigError as error:
        logger.info(f"report: no retrieval grid and no map of embeddings: {error}")
        rows, description["why_not"] = rows[:0], "the loss of this run compares no frames with speech"
    if not len(rows):
        description.setdefault("why_not", "no clip has enough speech")
        empty = np.zeros((0, 1, 1), np.uint8)
        nothing = np.zeros((0, 1), np.float32)
        parts: dict[str, NDArray[Any]] = {
            "frames": empty,
            "spectrograms": empty,
            "video": nothing,
            "speech": nothing,
            "places": nothing,
        }
        return {DESCRIPTION: np.array(json.dumps(description)), **parts}
    frames, pieces, clips = _read_clips(store, rows, space, labels)
    video, speech = space.embed_frames(frames), space.embed_pieces(pieces)
    with torch.inference_mode():
        powers = LogSpectrogram(settings.spectrogram)(torch.from_numpy(pieces))[:, 0].numpy()
    described = {
        **description,
        "label_names": [] if labels is None else list(labels.names),
        "label_colours": [] if labels is None else list(labels.colours),
        "clips": clips,
    }
    return {
        DESCRIPTION: np.array(json.dumps(described)),
        "frames": np.stack([_thumbnail(frame) for frame in frames]),
        "spectrograms": np.stack([spectrogram_pixels(power) for power in powers]),
        "video": video,
        "speech": speech,
        "places": embedding_places(np.concatenate([video, speech])),
    }


def embedding_places(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a map [n, 2] of embeddings [n, d] (t-SNE on cosine distances); empty for few of them."""
    if len(embeddings) < 2 * MIN_MAPPED_CLIPS or not np.isfinite(embeddings).all():
        return np.zeros((0, 2), np.float32)
    perplexity = min(PERPLEXITY, (len(embeddings) - 1) / 3)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.maximum(lengths, 1e-12)
    from sklearn.manifold import TSNE  # slow to import

    found = TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=SEED).fit_transform(unit)
    return np.asarray(found, np.float32)


def _read_clips(
    store: PreparedStore, rows: NDArray[np.int64], space: SharedSpace, labels: ScanLabels | None
) -> tuple[NDArray[np.uint8], NDArray[np.float32], list[dict[str, Any]]]:
    """Return the middle frame [n, P, P], the loudest piece of speech [n, S] and a description of each clip."""
    clips: ClipTable = store.clips
    seconds, piece_seconds = space.settings.clips.clip_seconds, space.piece_samples / space.rate_hz
    frames, pieces, described = [], [], []
    for row in track(rows.tolist(), "reading clips for the report"):
        number, start = int(clips.scan[row]), float(clips.start_seconds[row])
        scan = store.scan(number)
        index = scan.nearest_frames(np.array([start + seconds / 2]))
        starts = np.linspace(start, start + seconds - piece_seconds, STARTS)
        candidates = [scan.speech(float(at), space.piece_samples).astype(np.float32) / 32768 for at in starts]
        loudest = int(np.argmax([np.square(piece).mean() for piece in candidates]))
        at = float(scan.frame_seconds[index[0]])
        label = UNLABELLED if labels is None else int(labels.at(number, np.array([at]))[0])
        frames.append(scan.frames(index)[0])
        pieces.append(candidates[loudest])
        described.append(
            {
                "scan": scan.scan_key,
                "patient": scan.patient_key or scan.scan_key,
                "seconds": at,
                "speech_seconds": float(starts[loudest]),
                "label": label,
            }
        )
    return np.stack(frames), np.stack(pieces), described


def _thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if len(frame) <= THUMBNAIL:
        return frame
    return np.asarray(cv2.resize(frame, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA), np.uint8)
