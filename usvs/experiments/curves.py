"""Label efficiency of inits: macro F1 against the number of labelled patients, fine-tuned and frozen."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from usvs.config import Profile, override_settings
from usvs.data.patients import pretraining_keys
from usvs.errors import ConfigError
from usvs.evaluation.folds import make_folds
from usvs.evaluation.metrics import Spread
from usvs.experiments.runner import Experiment, Measurement
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.own_labels import default_task
from usvs.tasks.classification.settings import ClassificationSettings, classification_profile
from usvs.tasks.comparison import Patients
from usvs.tasks.initial_encoder import Init, encoder_sha256, init_names, initial_encoder
from usvs.tasks.overlap import held_out_rows, overlaps
from usvs.tasks.task import EvaluationProtocol

logger: logging.Logger = logging.getLogger(__name__)

FRACTIONS = (0.01, 0.05, 0.1, 1.0)
PROTOCOLS: dict[EvaluationProtocol, str] = {
    "finetune": "fine-tuned",
    "probe": "linear probe",
    "knn": "nearest neighbours",
}


@dataclass(frozen=True)
class Curves:
    """All results, as stored in ``OUT/results.json``; as text, one table for each evaluation protocol."""

    results: dict[str, Any]

    def __str__(self) -> str:
        results = self.results
        counts = [str(count) for count in results["patients_labelled"]]
        seeds, folds = len(results["seeds"]), results["settings"]["folds"]
        lines = [f"macro F1 in %, mean ± standard deviation over {seeds} seeds x {folds} patient folds"]
        for protocol, title in PROTOCOLS.items():
            lines += ["", f"{title:<24}" + "".join(f"{count + ' patients':>16}" for count in counts)]
            for init, measured in results["measured"][protocol].items():
                spreads = [str(Spread.of(result["f1"] for result in measured[count])) for count in counts]
                lines.append(f"{init:<24}" + "".join(f"{spread:>16}" for spread in spreads))
        chance = 100 * results["chance_f1"]
        return "\n".join(
            [*lines, "", f"chance {chance:.1f}; 'random' frozen: batch-norm statistics of the labelled frames"]
        )


def parse_fractions(text: str) -> tuple[float, ...]:
    """Return fractions from a text such as ``0.01,0.05,0.1,1``, sorted.

    Raises:
        ConfigError: for anything but numbers greater than 0 and at most 1.
    """
    try:
        fractions = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        fractions = ()
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise ConfigError(
            f"--fractions: expected numbers greater than 0 and at most 1, such as 0.01,0.1,1; got '{text}'"
        )
    return fractions


def run_curves(
    store: str | Path,
    out: str | Path,
    settings: ClassificationSettings | None = None,
    *,
    profile: Profile = "paper",
    inits: Sequence[Init] = ("random",),
    fractions: Sequence[float] = FRACTIONS,
    seeds: Sequence[int] = (0, 1, 2),
    patients: Patients = "all",
    allow_overlap: bool = False,
    init_stores: Sequence[str | Path] = (),
    **overrides: Any,
) -> Curves:
    """Measure what is not stored yet for each init, number of labelled patients, seed and fold.

    All results are in ``OUT/results.json``.

    A fraction stands for so many of a fold's training patients, rounded, at least one; the patients of a smaller
    fraction are among those of a larger one. Fractions of the same number of patients are measured once.

    Args:
        store: a prepared store with labels.
        out: a new folder, or one of an earlier call with the same arguments (seeds and fractions can be added).
        settings: folds, temporal stride, optimiser and network; None for those of `profile`.
        profile: ``paper`` or ``quick``; ignored where `settings` are given.
        inits: what encoders start from; see `usvs.tasks.initial_encoder`.
        fractions: of each fold's training patients, 0 to 1.
        seeds: of folds and of training.
        patients: ``held-out`` uses only patients that no init was pretrained on.
        allow_overlap: test on patients that an init was pretrained on, or that cannot be compared with those.
        init_stores: other stores that inits were pretrained on: their patients are compared by their names.
        **overrides: settings that replace those of `settings` or `profile`; see `usvs.config.override_settings`.

    Raises:
        DataError: for a store without labels or patients, or test patients that an init was pretrained on.
        ConfigError: for a folder with other content, or with results of other settings, data or code.
    """
    store, out = Path(store), Path(out)
    settings = override_settings(settings or classification_profile(profile), **overrides)
    curves = _Definition(PreparedStore(store), settings, inits, fractions, patients, allow_overlap, init_stores)
    measured: dict[str, Any] = {
        protocol: {name: {str(count): [] for count in curves.counts} for name in curves.inits} for protocol in PROTOCOLS
    }
    with Experiment("curves", curves.store, out, curves.record, settings.run.device) as experiment:
        for count, asked in curves.measurements(seeds):
            measured[asked.protocol][asked.init_name][str(count)].append(experiment.measure(asked))
        content = {
            "pretraining_overlap": curves.overlap,
            "seeds": list(seeds),
            "patients_labelled": curves.counts,
            **curves.task.reference(curves.store, curves.table, settings).values,
            "measured": measured,
        }
        return Curves(experiment.write_results(out, {"STORE": store, "OUT": out}, content))


class _Definition:
    """The frames, inits and numbers of labelled patients; arguments and errors are those of `run_curves`."""

    def __init__(
        self,
        store: PreparedStore,
        settings: ClassificationSettings,
        inits: Sequence[Init],
        fractions: Sequence[float],
        patients: Patients,
        allow_overlap: bool,
        init_stores: Sequence[str | Path],
    ) -> None:
        self.store, self.settings, self.task = store, settings, default_task(store, settings.label_column)
        self.inits = dict(zip(init_names(inits), inits, strict=True))
        self.table = self.task.dataset(store, settings)
        if patients == "held-out":
            self.table = self.table.take(held_out_rows(store, self.table, inits, init_stores))
        self.groups: list[str] = self.table.group.tolist()
        tested = pretraining_keys(store, np.unique(self.table.scan).tolist())
        self.overlap = overlaps(inits, list(self.inits), store, tested.values(), allow_overlap, init_stores)
        fewest = min(len(fold.train) for fold in make_folds(self.groups, settings.folds, 0))
        self.counts = sorted({max(1, round(fraction * fewest)) for fraction in fractions})
        shown = ", ".join(map(str, self.counts))
        logger.info(f"curves: {shown} labelled patients of {fewest} in each of {settings.folds} folds")

    @property
    def record(self) -> dict[str, Any]:
        """Plain values that decide the results."""
        settings = self.settings
        return {
            "settings": settings.model_dump(mode="json"),
            "task": self.task.description(),
            "patients": sorted(set(self.groups)),
            "inits": {name: encoder_sha256(initial_encoder(init, settings)) for name, init in self.inits.items()},
        }

    def measurements(self, seeds: Sequence[int]) -> Iterator[tuple[int, Measurement]]:
        """Yield everything that is measured, each with its number of labelled patients."""
        for seed in seeds:
            for name, init in self.inits.items():
                for fold in make_folds(self.groups, self.settings.folds, seed):
                    for count in self.counts:
                        for protocol in PROTOCOLS:
                            yield (
                                count,
                                Measurement(
                                    evaluation=protocol,
                                    init_name=name,
                                    init=lambda init=init: init,  # type: ignore[misc]
                                    seed=seed,
                                    fold=fold.labelled(count),
                                    task=self.task,
                                    table=self.table,
                                    settings=self.settings,
                                    protocol=protocol,
                                    detail=f"_patients_{count}",
                                ),
                            )
