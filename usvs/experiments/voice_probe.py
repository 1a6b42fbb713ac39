"""How well frames of unseen patients are named by voice: beside chance, shuffled speech and a supervised probe."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from usvs import __version__
from usvs.archive.class_list import UNLABELLED
from usvs.data.settings import TEMPORAL_STRIDE
from usvs.errors import ConfigError, DataError
from usvs.evaluation.probe import probe_probabilities
from usvs.evaluation.voice_naming import WAYS, accuracies, naming_accuracy
from usvs.evaluation.zero_shot import search_precision
from usvs.inference.embed import embed
from usvs.inference.spoken_prompts import embed_text, speak_classes
from usvs.narration.spoken import PHRASINGS, VOICES, SpokenClasses, draw_voices, read_spoken_classes
from usvs.narration.voice import Voice, draw_voice
from usvs.store.prepared import PreparedStore
from usvs.tasks.diagnosis.labelled_samples import open_labels
from usvs.tasks.pretraining.shared_space import SharedSpace
from usvs.tasks.provenance import typed_command
from usvs.tasks.trained_patients import patients_in_store, trained_patients, trained_scans
from usvs.training.environment import describe_environment
from usvs.training.trainer import choose_device
from usvs.utils.atomic_files import write_text, writing
from usvs.utils.private_files import make_private_folder
from usvs.utils.regular_files import read_regular_text

logger: logging.Logger = logging.getLogger(__name__)

SEARCHED = 20  # frames of each class that a search is judged by


class Frames(NamedTuple):
    """Embedded frames: [n, d] embeddings, and scan, seconds, patient and class number of each (-1: none)."""

    rows: NDArray[np.float32]
    scan: NDArray[np.str_]
    seconds: NDArray[np.float64]
    patient: NDArray[np.str_]
    label: NDArray[np.int64]

    def take(self, mask: NDArray[np.bool_]) -> "Frames":
        """Return some of the frames."""
        return Frames(self.rows[mask], self.scan[mask], self.seconds[mask], self.patient[mask], self.label[mask])


@dataclass(frozen=True)
class VoiceProbe:
    """All results, as stored; as text, a table."""

    results: dict[str, Any]

    def __str__(self) -> str:
        found, chance = self.results["measured"], self.results["chance"]
        counts = self.results["test"]
        lines = [
            f"{counts['frames']} frames of {counts['patients']} unseen patients, {len(self.results['classes'])}"
            f" classes; chance: top-1 {100 * chance['top1']:.1f} %, top-3 {100 * chance['top3']:.1f} %, always the most"
            f" frequent class {100 * chance['most_frequent']:.1f} %",
            f"{'':<34}{'way':<18}{'top-1 %':>22}{'top-3 %':>9}",
        ]
        for name, ways in found.items():
            for way, scores in ways.items():
                top1 = f"{100 * scores['top1']:.1f}"
                if "top1_low" in scores:
                    top1 += f" ({100 * scores['top1_low']:.1f}, {100 * scores['top1_high']:.1f})"
                lines.append(f"{name:<34}{way:<18}{top1:>22}{100 * scores['top3']:>9.1f}")
        searched = self.results["search"]
        lines += [
            f"search by the class's terms in {name}: {100 * precision:.1f} % of the {searched['frames']} nearest frames"
            f" show it (chance {100 * searched['chance']:.1f} %)"
            for name, precision in searched["precision"].items()
        ]
        lines += [f"{way}: {meaning}" for way, meaning in WAYS.items()]
        return "\n".join([*lines, "in brackets: 95 % interval by resampling patients"])


def probe_voice(
    store: str | Path,
    run: str | Path,
    out: str | Path,
    *,
    classes: str | Path,
    labels: str | Path | None = None,
    control: str | Path | None = None,
    seen_voices: str | Path | None = None,
    probe_store: str | Path | None = None,
    probe_labels: str | Path | None = None,
    voices: int = VOICES,
    stride: int = TEMPORAL_STRIDE,
    allow_overlap: bool = False,
) -> VoiceProbe:
    """Name the frames of patients that a run has not seen by spoken classes, and write all scores to a file.

    Labels are used to count, and by the supervised probe; the classifier sees none.

    Args:
        store: with patients that the run was not trained on.
        run: a pretraining run.
        out: a JSON file.
        classes: text or lexicon, see `usvs.narration.spoken.read_spoken_classes`.
        labels: as of `usvs.diagnose`; None: the names of the labels that the store has.
        control: a run on shuffled speech.
        seen_voices: the voices of the run's archive: ``archive.json`` of `usvs narrate`, or ``SEED:COUNT`` of a phantom
            archive; they are measured apart, and none of the unseen voices has the name of one.
        probe_store: where the probe's training frames are, of patients that the run was trained on; None: `store`.
        probe_labels: of `probe_store`; None: as `labels`.
        voices: number of unseen voices.
        stride: every `stride`-th frame of a scan is used.
        allow_overlap: go on where the run was trained on another store, whose patients cannot be compared.

    Raises:
        DataError: where no frame of an unseen patient has a label of the classes.
        ConfigError, MissingDependencyError: as of `usvs.ZeroShotClassifier`.
    """
    spoken = read_spoken_classes(classes)
    target, seen = Path(out), () if seen_voices is None else read_voices(str(seen_voices))
    groups = {"unseen voices": draw_voices(voices, [voice.name for voice in seen])}
    if seen:
        groups["seen voices"] = seen
    space = SharedSpace.load(run)
    opened = PreparedStore(Path(store))
    scans = trained_scans(Path(run))
    trained, _ = patients_in_store(trained_patients(Path(run)) or {}, opened, Path(run).name, (), allow_overlap, scans)
    names = spoken.class_list.names
    test = _embed(opened, run, names, labels, stride, shared=True)
    test = test.take(~np.isin(test.patient, sorted(trained)))
    known = test.label[test.label >= 0]
    if not len(known):
        raise DataError(f"store '{store}': expected frames of unseen patients with labels {', '.join(names)}, got none")
    measured = _measure(space, spoken, groups, test, "")
    if control is not None:
        shuffled = _embed(opened, control, names, labels, stride, shared=True)
        shuffled = shuffled.take(~np.isin(shuffled.patient, sorted(trained)))
        measured |= _measure(SharedSpace.load(control), spoken, groups, shuffled, "shuffled speech, ")
    measured |= _supervised(opened, run, names, labels, stride, trained, probe_store, probe_labels)
    searched = _search(space, spoken, groups, test)
    count = np.bincount(known, minlength=len(names))
    present = int((count > 0).sum())
    results = {
        "kind": "voice_probe",
        "usvs": __version__,
        "command": typed_command(
            sys.argv, {"STORE": Path(store), "RUN": Path(run), "OUT.json": target, **_optional(control, probe_store)}
        ),
        "environment": describe_environment(choose_device(space.settings.run.device)),
        "classes": dict(zip(names, map(list, spoken.terms), strict=True)),
        "phrasings": list(PHRASINGS),
        "voices": {name: [vars(voice) for voice in chosen] for name, chosen in groups.items()},
        "test": {
            "frames": len(known),
            "patients": len(np.unique(test.patient[test.label >= 0])),
            "of_class": dict(zip(names, count.tolist(), strict=True)),
            "without_label": int((test.label < 0).sum()),
            "stride": stride,
        },
        "chance": {
            "top1": 1 / len(names),
            "top3": min(1.0, 3 / len(names)),
            "most_frequent": float(count.max() / count.sum()),
            "classes_present": present,
        },
        "measured": measured,
        "search": {"frames": SEARCHED, "chance": float(np.mean(count / count.sum())), "precision": searched},
    }
    with writing(f"'{target}'"):
        make_private_folder(target.parent)
        write_text(target, json.dumps(results, indent=1) + "\n")
    return VoiceProbe(results)


def read_voices(source: str) -> tuple[Voice, ...]:
    """Read the voices of an archive: ``archive.json`` of its ground truth, or ``SEED:COUNT`` of a phantom archive.

    Raises:
        ConfigError: for something else.
    """
    seed, colon, count = source.partition(":")
    if colon and seed.isdigit() and count.isdigit() and int(count) > 0:
        return tuple(draw_voice(int(seed), number) for number in range(int(count)))
    try:
        return tuple(Voice(**voice) for voice in json.loads(read_regular_text(Path(source)))["voices"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"voices '{source}': expected archive.json of a ground truth or SEED:COUNT, got {error!r}"
        ) from None


def _measure(
    space: SharedSpace, spoken: SpokenClasses, groups: dict[str, tuple[Voice, ...]], test: Frames, prefix: str
) -> dict[str, dict[str, dict[str, float]]]:
    found = {}
    for name, chosen in groups.items():
        prompts = np.stack(speak_classes(space, spoken.terms, chosen))
        found[f"{prefix}{name}"] = naming_accuracy(
            test.rows, prompts, test.label, test.scan, test.seconds, test.patient
        )
    return found


def _search(
    space: SharedSpace, spoken: SpokenClasses, groups: dict[str, tuple[Voice, ...]], test: Frames
) -> dict[str, float]:
    """Measure the search for the terms of each class: the fraction of the nearest frames that show it."""
    known = test.take(test.label >= 0)
    found = {}
    for name, chosen in groups.items():
        queries = np.stack([embed_text(space, terms, chosen) for terms in spoken.terms])
        found[name] = search_precision(known.rows, queries, known.label, SEARCHED)
    return found


def _supervised(
    store: PreparedStore,
    run: str | Path,
    names: Sequence[str],
    labels: str | Path | None,
    stride: int,
    trained: frozenset[str],
    probe_store: str | Path | None,
    probe_labels: str | Path | None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Measure a linear probe of the run's features, trained with labels on the run's own patients."""
    test = _embed(store, run, names, labels, stride, shared=False)
    if probe_store is None:
        train = test.take(np.isin(test.patient, sorted(trained)))
    else:
        other = PreparedStore(Path(probe_store))
        train = _embed(other, run, names, labels if probe_labels is None else probe_labels, stride, shared=False)
        listed = (trained_patients(Path(run)) or {}).get(other.store_id, frozenset())
        train = train.take(np.isin(train.patient, sorted(listed)))
    train = train.take(train.label >= 0)
    test = test.take(~np.isin(test.patient, sorted(trained)) & (test.label >= 0))
    if len(np.unique(train.label)) < 2:
        logger.warning("probe-voice: no supervised probe: no labelled frames of patients that the run was trained on")
        return {}
    probabilities = probe_probabilities(train.rows, train.label, test.rows, len(names))
    return {"supervised linear probe": {"features": accuracies(probabilities, test.label, test.patient)}}


def _embed(
    store: PreparedStore, run: str | Path, names: Sequence[str], labels: str | Path | None, stride: int, shared: bool
) -> Frames:
    """Embed every `stride`-th frame of a store, with the class of each."""
    table = embed(store.store, run, stride=stride, space="shared" if shared else "features")
    rows = np.stack(table[0].to_numpy())
    scan, seconds = np.array(table["scan"].to_pylist()), table["seconds"].to_numpy()
    patients = np.array([p or s for p, s in zip(table["patient"].to_pylist(), table["scan"].to_pylist(), strict=True)])
    of_frame: list[str | None] = table["label"].to_pylist()
    if labels is not None:
        source = open_labels(store, labels)
        of_frame = [None] * len(rows)
        for number, key in enumerate(store.scans):
            own = np.flatnonzero(scan == key)
            for row, label in zip(own.tolist(), source.at(number, seconds[own]).tolist(), strict=True):
                of_frame[row] = None if label == UNLABELLED else source.names[label]
    number_of = {name: number for number, name in enumerate(names)}
    label = np.array([number_of.get(name or "", UNLABELLED) for name in of_frame], np.int64)
    return Frames(rows, scan, seconds, patients, label)


def _optional(control: str | Path | None, probe_store: str | Path | None) -> dict[str, Path]:
    given = {"CONTROL": control, "PROBE_STORE": probe_store}
    return {name: Path(path) for name, path in given.items() if path is not None}
