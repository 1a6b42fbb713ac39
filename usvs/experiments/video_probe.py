"""Does order pretraining help on real video: a frozen probe of findings, against a random init, grouped by source.

Videos of one source never stand on both sides of a split. For each split the encoder is pretrained by frame order on
the training side's videos alone, so that it has seen nothing of the test side. "random" is the untrained encoder with
batch-norm statistics computed on the training side's frames.
"""

import csv
import json
import logging
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pydantic import Field

from usvs import __version__
from usvs.config import Settings
from usvs.data.frame_table import FrameTable, every_nth_frame
from usvs.errors import DataError
from usvs.evaluation.folds import Fold, check_disjoint, keyed_order
from usvs.evaluation.metrics import PlaneMetrics, Spread, plane_metrics
from usvs.evaluation.probe import probe_probabilities
from usvs.evaluation.significance import paired_difference
from usvs.experiments.evidence_table import TEST
from usvs.experiments.pretrainings import pretrain_row, pretraining_folder
from usvs.store.catalogue import Catalogue
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.settings import ClassificationSettings, classification_profile
from usvs.tasks.comparison import RESULTS, typed_command
from usvs.tasks.frozen_probe import frozen_features
from usvs.tasks.initial_encoder import Init, initial_encoder
from usvs.tasks.pretraining.settings import PretrainSettings, pretrain_profile
from usvs.tasks.result_cache import ResultCache
from usvs.training.environment import describe_environment
from usvs.training.trainer import choose_device
from usvs.utils.atomic_files import write_text

logger = logging.getLogger(__name__)

INITS = ("random", "video")


class VideoProbeSettings(Settings):
    """What is pretrained and how it is read; a small network for short clips by default."""

    pretrain: PretrainSettings = Field(
        default_factory=lambda: pretrain_profile("quick").model_copy(update={"validation_fraction": 0.0})
    )
    read: ClassificationSettings = Field(
        default_factory=lambda: classification_profile("quick")
    )  # its network and temporal stride
    folds: int = Field(2, ge=2)


@dataclass(frozen=True)
class VideoLabels:
    """Which class each labelled scan of a store is of, and which source it comes from."""

    classes: tuple[str, ...]
    label: dict[int, int]  # scan number -> class number
    source: dict[int, str]  # scan number -> source

    def of_sources(self, sources: Sequence[str]) -> list[int]:
        """Return the scans of some sources."""
        chosen = set(sources)
        return [scan for scan, source in self.source.items() if source in chosen]


@dataclass(frozen=True)
class VideoProbe:
    """All cells, as stored in ``OUT/results.json``; as text, a table."""

    results: dict[str, Any]

    def __str__(self) -> str:
        results, cells = self.results, self.results["measured"]
        videos = ", ".join(f"{count} {name}" for name, count in results["videos"].items())
        dealt = f"{results['repeats']} repeats x {results['settings']['folds']} folds by source"
        lines = [
            f"{videos}; {results['sources']} sources; {dealt}; macro F1 in %",
            f"{'init':<40}{'frames':>16}{'videos':>16}",
        ]
        titles = {"random": "random, calibrated", "video": "frame order, training side only"}
        for init in INITS:
            spreads = [str(Spread.of(cell[score] for cell in cells[init])) for score in ("f1", "video_f1")]
            lines.append(f"{titles[init]:<40}" + "".join(f"{spread:>16}" for spread in spreads))
        for score, what in (("f1", "frames"), ("video_f1", "videos")):
            found = paired_difference(*([cell[score] for cell in cells[init]] for init in ("video", "random")))
            ahead = f"ahead in {found.wins} of {len(found.values)}"
            lines.append(
                f"frame order - random, {what}: {100 * found.mean:+.1f} points, {ahead}, p = {found.p_value:.4f}"
            )
        return "\n".join([*lines, f"p: {TEST.replace('seed x fold', 'repeat x fold')}"])


def probe_videos(
    store: Path,
    out: Path,
    labels: VideoLabels,
    settings: VideoProbeSettings | None = None,
    repeats: int = 5,
) -> VideoProbe:
    """Run what is missing of every cell (init, repeat, fold), then write ``OUT/results.json``.

    Args:
        store: a prepared store of the videos.
        out: a new folder, or one that this call began.
        labels: as `read_video_labels` returns.
        settings: network, pretraining and folds.
        repeats: each deals the sources anew and has weights of its own.

    Raises:
        DataError: where a class has fewer sources than folds, or a patient is on both sides.
        ConfigError: for a folder that holds something else or cells of other settings.
    """
    job = _Job(store, out, labels, settings or VideoProbeSettings())
    measured: dict[str, list[dict[str, Any]]] = {init: [] for init in INITS}
    for repeat in range(repeats):
        for fold in job.folds(repeat):
            for init in INITS:
                measured[init].append(job.cell(init, repeat, fold))
    results = {
        "kind": "video_probe",
        "usvs": __version__,
        "command": typed_command(sys.argv, {"STORE": store, "OUT": out}),
        "environment": describe_environment(choose_device(job.settings.pretrain.run.device)),
        **job.plan,
        "repeats": repeats,
        "measured": measured,
    }
    write_text(out / RESULTS, json.dumps(results, indent=1))
    return VideoProbe(results)


def read_video_labels(
    store: Path,
    file: Path,
    classes: Sequence[str],
    file_column: str = "file",
    label_column: str = "label",
    source_column: str = "source_id",
) -> VideoLabels:
    """Read a csv with a line a video; videos of other classes, or not in the store, are left out and counted aloud.

    Args:
        store: where the videos are prepared; they are found by the name of their file.
        file: the csv.
        classes: the labels to tell apart, in order.
        file_column: the column with the file's name.
        label_column: the column with its class.
        source_column: the column that says which videos belong together.

    Raises:
        DataError: for a missing column, or fewer than two classes with a video.
    """
    opened, scans = PreparedStore(store), Catalogue.load(store).scans
    paths = dict(zip(scans["scan_key"].to_pylist(), scans["path"].to_pylist(), strict=True))
    number = {PurePosixPath(paths[key]).name: place for place, key in enumerate(opened.scans)}
    label, source, left_out = {}, {}, 0
    with file.open(newline="", encoding="utf-8-sig") as text:
        reader = csv.DictReader(text)
        for column in (file_column, label_column, source_column):
            if column not in (reader.fieldnames or ()):
                raise DataError(f"labels '{file.name}': column '{column}' is missing, got {reader.fieldnames}")
        for row in reader:
            name = PurePosixPath(row[file_column]).name
            if row[label_column] not in classes or name not in number:
                left_out += 1
                continue
            label[number[name]] = list(classes).index(row[label_column])
            source[number[name]] = row[source_column]
    if len(set(label.values())) < 2:
        raise DataError(f"labels '{file.name}': expected videos of at least two of {', '.join(classes)}")
    logger.info(f"labels: {len(label)} videos of {len(set(source.values()))} sources; {left_out} lines left out")
    return VideoLabels(tuple(classes), label, source)


class _Job:
    """The videos, folder and settings that all cells share."""

    def __init__(self, store: Path, out: Path, labels: VideoLabels, settings: VideoProbeSettings) -> None:
        self.folder, self.out, self.labels, self.settings = store, out, labels, settings
        self.store = PreparedStore(store)
        scans = sorted(labels.label)
        table = every_nth_frame(self.store, scans, settings.read.temporal_stride)
        classes = np.array([labels.label[scan] for scan in table.scan.tolist()])
        self.table = replace(table, label=classes, group=np.array([labels.source[n] for n in table.scan.tolist()]))
        counts = np.bincount([labels.label[scan] for scan in scans], minlength=len(labels.classes))
        self.plan = {
            "settings": settings.model_dump(mode="json"),
            "classes": list(labels.classes),
            "videos": dict(zip(labels.classes, counts.tolist(), strict=True)),
            "sources": len(set(labels.source.values())),
        }
        self.cells = ResultCache(out, "video_probe", self.plan)

    def folds(self, repeat: int) -> list[Fold]:
        """Deal the sources of each class into test sets; a source of several classes goes with its first."""
        of_class: dict[int, list[str]] = defaultdict(list)
        for scan, source in sorted(self.labels.source.items()):
            if not any(source in sources for sources in of_class.values()):
                of_class[self.labels.label[scan]].append(source)
        tests: list[list[str]] = [[] for _ in range(self.settings.folds)]
        for number, sources in sorted(of_class.items()):
            if len(sources) < self.settings.folds:
                name = self.labels.classes[number]
                raise DataError(f"{self.settings.folds} folds need as many sources of '{name}', got {len(sources)}")
            for place, source in enumerate(keyed_order(sources, f"videos {repeat}")):
                tests[place % self.settings.folds].append(source)
        everyone = [source for of_test in tests for source in of_test]
        return [
            Fold(number, tuple(source for source in everyone if source not in test), tuple(test))
            for number, test in enumerate(tests)
        ]

    def cell(self, init: str, repeat: int, fold: Fold) -> dict[str, Any]:
        """Measure one cell, unless it is kept from before."""
        work = partial(self._read, init, repeat, fold)
        return self.cells.measure(f"{init}_repeat_{repeat}_fold_{fold.number}", work)

    def _read(self, init: str, repeat: int, fold: Fold) -> dict[str, Any]:
        train, test = self.table.of_groups(fold.train), self.table.of_groups(fold.test)
        seed = repeat * self.settings.folds + fold.number  # every pretraining has weights of its own
        run = self.settings.read.run.model_copy(update={"seed": seed})
        settings = self.settings.read.model_copy(update={"run": run})
        encoder = initial_encoder(self._start(init, seed, train, test), settings)
        pixels, augment = settings.model.frame_pixels, settings.augment
        known, unknown = frozen_features(self.store, encoder, train, test, pixels, augment, calibrated=init == "random")
        probabilities = probe_probabilities(known, train.label, unknown, len(self.labels.classes))
        frames = plane_metrics(test.label, probabilities.argmax(axis=1), self.labels.classes)
        videos = self._of_videos(test, probabilities)
        logger.info(f"{init}, repeat {repeat}, fold {fold.number}: macro F1 {100 * frames.f1:.1f} % of frames")
        counts = {"train_frames": len(train), "test_frames": len(test), "test_sources": len(fold.test)}
        return {"init": init, "repeat": repeat, **counts, **frames.to_json(), "video_f1": videos.f1}

    def _start(self, init: str, seed: int, train: FrameTable, test: FrameTable) -> Init:
        if init == "random":
            return "random"
        pretrained, tested = self._patients(train), self._patients(test)
        check_disjoint(pretrained, tested, "pretraining and test")
        pretrain_row(self.folder, self.out, "video", seed, self.settings.pretrain, pretrained)
        return pretraining_folder(self.out, "video", seed)

    def _patients(self, table: FrameTable) -> list[str]:
        scans = [self.store.scan(int(number)) for number in np.unique(table.scan)]
        return sorted({scan.patient_key or scan.scan_key for scan in scans})

    def _of_videos(self, test: FrameTable, probabilities: np.ndarray[Any, Any]) -> PlaneMetrics:
        """Score each video by the mean of its frames' probabilities."""
        scans = np.unique(test.scan)
        named = [int(probabilities[test.scan == scan].mean(axis=0).argmax()) for scan in scans]
        truth: Mapping[int, int] = self.labels.label
        return plane_metrics(np.array([truth[int(scan)] for scan in scans]), np.array(named), self.labels.classes)
