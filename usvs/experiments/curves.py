"""Label efficiency of inits: macro F1 against the number of labelled patients, fine-tuned and frozen."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from usvs.archive.plane_labels import PLANES
from usvs.data.patients import pretraining_keys
from usvs.errors import ConfigError
from usvs.evaluation.folds import make_folds
from usvs.evaluation.metrics import Spread, chance_f1
from usvs.experiments._adapter import PLANES_TASK
from usvs.experiments.runner import Experiment, Measurement
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.settings import ClassificationSettings
from usvs.tasks.comparison import held_out_rows, overlaps
from usvs.tasks.initial_encoder import Init, encoder_sha256, init_names, initial_encoder

logger = logging.getLogger(__name__)

FRACTIONS = (0.01, 0.05, 0.1, 1.0)
PROTOCOLS = {"finetune": "fine-tuned", "probe": "linear probe", "knn": "nearest neighbours"}


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
    settings: ClassificationSettings,
    inits: Sequence[Init],
    fractions: Sequence[float] = FRACTIONS,
    seeds: Sequence[int] = (0, 1, 2),
    held_out_only: bool = False,
    allow_overlap: bool = False,
) -> Curves:
    """Measure what is not stored yet for each init, number of labelled patients, seed and fold; write ``OUT/results.json``.

    A fraction stands for so many of a fold's training patients, rounded, at least one; the patients of a smaller
    fraction are among those of a larger one. Fractions of the same number of patients are measured once.

    Args:
        store: a prepared store with labels.
        out: a new folder, or one of an earlier call with the same arguments (seeds and fractions can be added).
        settings: folds, temporal stride, optimiser and network.
        inits: what encoders start from; see `usvs.tasks.initial_encoder`. The seeds here are of folds and training only.
        fractions: of each fold's training patients, 0 to 1.
        seeds: of folds and of training.
        held_out_only: use only patients that no init was pretrained on.
        allow_overlap: test on patients that an init was pretrained on.

    Raises:
        DataError: for a store without labels or patients, or test patients that an init was pretrained on.
        ConfigError: for a folder with other content, or with results of other settings, data or code.
    """
    store, out, prepared = Path(store), Path(out), PreparedStore(Path(store))
    names = dict(zip(init_names(inits), inits, strict=True))
    table = PLANES_TASK.dataset(prepared, settings)
    if held_out_only:
        table = table.take(held_out_rows(prepared, table, inits))
    tested = pretraining_keys(prepared, np.unique(table.scan).tolist())
    overlap = overlaps(inits, list(names), tested.values(), allow_overlap)
    groups = table.group.tolist()
    fewest = min(len(fold.train) for fold in make_folds(groups, settings.folds, 0))
    counts = sorted({max(1, round(fraction * fewest)) for fraction in fractions})
    record = {
        "settings": settings.model_dump(mode="json"),
        "patients": sorted(set(groups)),
        "inits": {name: encoder_sha256(initial_encoder(init, settings)) for name, init in names.items()},
    }
    logger.info(
        f"curves: {', '.join(map(str, counts))} labelled patients of {fewest} in each of {settings.folds} folds"
    )
    measured: dict[str, dict[str, dict[str, list[dict[str, Any]]]]] = {
        protocol: {name: {str(count): [] for count in counts} for name in names} for protocol in PROTOCOLS
    }
    with Experiment("curves", prepared, out, record, settings.run.device) as experiment:
        for seed in seeds:
            for name in names:
                for fold in make_folds(groups, settings.folds, seed):
                    for count in counts:
                        for protocol in PROTOCOLS:
                            asked = Measurement(
                                evaluation=protocol,
                                init_name=name,
                                init=lambda init=names[name]: init,  # type: ignore[misc]
                                seed=seed,
                                fold=fold.labelled(count),
                                task=PLANES_TASK,
                                table=table,
                                settings=settings,
                                protocol=protocol,
                                detail=f"_patients_{count}",
                            )
                            measured[protocol][name][str(count)].append(experiment.measure(asked))
        content = {
            "pretraining_overlap": overlap,
            "seeds": list(seeds),
            "patients_labelled": counts,
            "chance_f1": chance_f1(table.plane, len(PLANES)),
            "measured": measured,
        }
        return Curves(experiment.write_results(out, {"STORE": store, "OUT": out}, content))
