"""Does frame-order pretraining help on real video: a linear probe of video classes, against an untrained encoder.

Folds divide sources, so videos of one source are never in both training and test. In each fold the encoder is
pretrained by frame order on the training videos alone. ``random`` is the untrained encoder with batch-norm statistics
computed on the training frames.
"""

import hashlib
import json
import logging
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from usvs.config import Settings, override_settings
from usvs.data.frame_table import FrameTable, every_nth_frame
from usvs.errors import DataError
from usvs.evaluation.folds import Fold, check_disjoint, keyed_order
from usvs.evaluation.metrics import ClassificationMetrics, Spread, classification_metrics
from usvs.evaluation.probe import probe_probabilities
from usvs.evaluation.significance import paired_difference
from usvs.experiments.evidence_table import TEST
from usvs.experiments.pretrainings import pretraining_folder
from usvs.experiments.runner import Experiment, with_seed
from usvs.experiments.video_labels import VideoLabels
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.settings import ClassificationSettings, classification_profile
from usvs.tasks.frozen_features import frozen_features
from usvs.tasks.initial_encoder import Init, initial_encoder
from usvs.tasks.pretraining.settings import PretrainSettings, pretrain_profile

logger: logging.Logger = logging.getLogger(__name__)

PROBE_TITLES = {"random": "random, calibrated", "video": "frame order, on the training videos"}


class VideoProbeSettings(Settings):
    """What is pretrained and how it is evaluated; by default a small network for short clips."""

    pretrain: PretrainSettings = Field(
        default_factory=lambda: pretrain_profile("quick").model_copy(update={"validation_fraction": 0.0})
    )
    """The pretraining."""
    evaluation: ClassificationSettings = Field(default_factory=lambda: classification_profile("quick"))
    """The network and the temporal stride of the probe."""
    folds: int = Field(2, ge=2)
    """Number of folds by source."""


@dataclass(frozen=True)
class VideoProbe:
    """All results, as stored in ``OUT/results.json``; as text, a table."""

    results: dict[str, Any]

    def __str__(self) -> str:
        results, measured = self.results, self.results["measured"]
        videos = ", ".join(f"{count} {name}" for name, count in results["videos"].items())
        folds = f"{results['repeats']} repeats x {results['settings']['folds']} folds by source"
        lines = [
            f"{videos}; {results['sources']} sources; {folds}; macro F1 in %, mean ± standard deviation",
            f"{'init':<40}{'frames':>16}{'videos':>16}",
        ]
        for init, title in PROBE_TITLES.items():
            spreads = [str(Spread.of(result[score] for result in measured[init])) for score in ("f1", "video_f1")]
            lines.append(f"{title:<40}" + "".join(f"{spread:>16}" for spread in spreads))
        for score, what in (("f1", "frames"), ("video_f1", "videos")):
            found = paired_difference(*([result[score] for result in measured[init]] for init in ("video", "random")))
            wins = f"higher in {found.wins} of {len(found.values)}"
            lines.append(
                f"frame order - random, {what}: {100 * found.mean:+.1f} points, {wins}, p = {found.p_value:.4f}"
            )
        return "\n".join([*lines, f"p: {TEST.replace('seed x fold', 'repeat x fold')}"])


def probe_videos(
    store: str | Path,
    out: str | Path,
    labels: VideoLabels,
    settings: VideoProbeSettings | None = None,
    *,
    repeats: int = 5,
    **overrides: Any,
) -> VideoProbe:
    """Measure what is not stored yet for each init, repeat and fold, then write ``OUT/results.json``.

    Args:
        store: a prepared store of the videos.
        out: a new folder, or one of an earlier call with the same labels, settings, store and code.
        labels: of `read_video_labels`.
        settings: network, pretraining and folds; None for the defaults.
        repeats: number of repeats; each has other folds and other weights.
        **overrides: settings that replace those of `settings`; see `usvs.config.override_settings`.

    Raises:
        DataError: where a class has fewer sources than folds, or a patient is in both training and test.
        ConfigError: for a folder with other content, or with results of other settings, data or code.
    """
    store, out = Path(store), Path(out)
    settings = override_settings(settings or VideoProbeSettings(), **overrides)
    probe = _Definition(PreparedStore(store), labels, settings)
    measured: dict[str, list[dict[str, Any]]] = {init: [] for init in PROBE_TITLES}
    with Experiment("video_probe", probe.store, out, probe.record, settings.pretrain.run.device) as experiment:
        for repeat in range(repeats):
            for fold in video_folds(labels, settings.folds, repeat):
                for init in PROBE_TITLES:
                    work = partial(probe.measure, experiment, init, repeat, fold)
                    result = experiment.cache.measure(f"{init}_repeat_{repeat}_fold_{fold.number}", work)
                    measured[init].append(result)
        content = {"repeats": repeats, "measured": measured}
        return VideoProbe(experiment.write_results(out, {"STORE": store, "OUT": out}, content))


def video_folds(labels: VideoLabels, folds: int, repeat: int) -> list[Fold]:
    """Divide the sources of each class between test sets; a source of several classes counts for its first.

    Raises:
        DataError: where a class has fewer sources than folds.
    """
    of_class: dict[int, list[str]] = defaultdict(list)
    for scan, source in sorted(labels.source.items()):
        if not any(source in sources for sources in of_class.values()):
            of_class[labels.label[scan]].append(source)
    tests: list[list[str]] = [[] for _ in range(folds)]
    for number, sources in sorted(of_class.items()):
        if len(sources) < folds:
            name = labels.classes[number]
            raise DataError(f"class '{name}': expected at least {folds} sources for {folds} folds, got {len(sources)}")
        for position, source in enumerate(keyed_order(sources, f"videos {repeat}")):
            tests[position % folds].append(source)
    everyone = [source for of_test in tests for source in of_test]
    return [
        Fold(number, tuple(source for source in everyone if source not in test), tuple(test))
        for number, test in enumerate(tests)
    ]


class _Definition:
    """The frames of the labelled videos, and how one init is measured on one fold."""

    def __init__(self, store: PreparedStore, labels: VideoLabels, settings: VideoProbeSettings) -> None:
        self.store, self.labels, self.settings = store, labels, settings
        table = every_nth_frame(store, sorted(labels.label), settings.evaluation.temporal_stride)
        classes = np.array([labels.label[scan] for scan in table.scan.tolist()])
        self.table = replace(table, label=classes, group=np.array([labels.source[n] for n in table.scan.tolist()]))

    @property
    def record(self) -> dict[str, Any]:
        """Plain values that decide the results."""
        labels = self.labels
        counts = np.bincount(list(labels.label.values()), minlength=len(labels.classes))
        rows = [[self.store.scans[scan], labels.label[scan], labels.source[scan]] for scan in sorted(labels.label)]
        return {
            "settings": self.settings.model_dump(mode="json"),
            "classes": list(labels.classes),
            "videos": dict(zip(labels.classes, counts.tolist(), strict=True)),
            "sources": len(set(labels.source.values())),
            "labels_sha256": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        }

    def measure(self, experiment: Experiment, init: str, repeat: int, fold: Fold) -> dict[str, Any]:
        """Measure the probe of one init on one fold, by frame and by video."""
        train, test = self.table.of_groups(fold.train), self.table.of_groups(fold.test)
        seed = repeat * self.settings.folds + fold.number  # every pretraining has weights of its own
        settings = with_seed(self.settings.evaluation, seed)
        encoder = initial_encoder(self._init(experiment, init, seed, train, test), settings)
        pixels, augment = settings.model.frame_pixels, settings.augment
        known, unknown = frozen_features(self.store, encoder, train, test, pixels, augment, calibrated=init == "random")
        probabilities = probe_probabilities(known, train.label, unknown, len(self.labels.classes))
        frames = classification_metrics(test.label, probabilities.argmax(axis=1), self.labels.classes)
        videos = self._of_videos(test, probabilities)
        logger.info(f"{init}, repeat {repeat}, fold {fold.number}: macro F1 {100 * frames.f1:.1f} % of frames")
        counts = {"train_frames": len(train), "test_frames": len(test), "test_sources": len(fold.test)}
        return {"init": init, "repeat": repeat, **counts, **frames.to_json(), "video_f1": videos.f1}

    def _init(self, experiment: Experiment, init: str, seed: int, train: FrameTable, test: FrameTable) -> Init:
        if init == "random":
            return "random"
        pretrained, tested = self._patients(train), self._patients(test)
        check_disjoint(pretrained, tested, "pretraining and test")
        experiment.pretrain(init, seed, self.settings.pretrain, pretrained)
        return pretraining_folder(experiment.out, init, seed)

    def _patients(self, table: FrameTable) -> tuple[str, ...]:
        scans = [self.store.scan(int(number)) for number in np.unique(table.scan)]
        return tuple(sorted({scan.patient_key or scan.scan_key for scan in scans}))

    def _of_videos(self, test: FrameTable, probabilities: np.ndarray[Any, Any]) -> ClassificationMetrics:
        """Score each video by the mean of its frames' probabilities."""
        scans = np.unique(test.scan).tolist()
        predicted = [int(probabilities[test.scan == scan].mean(axis=0).argmax()) for scan in scans]
        expected = [self.labels.label[scan] for scan in scans]
        return classification_metrics(np.array(expected), np.array(predicted), self.labels.classes)
