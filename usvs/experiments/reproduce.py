"""The paper's experiments on any archive: Tables 1, 2 and 3 and Figures 3 and 4, and controls of our own.

Every pretraining, network and result is stored, so the same command resumes after an interruption, and more seeds can
be added later. What is measured is in `usvs.experiments.definition` and `usvs.experiments.presets`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usvs.config import Profile, override_settings
from usvs.errors import ConfigError
from usvs.experiments.definition import Definition
from usvs.experiments.evidence_table import evidence_table
from usvs.experiments.presets import PresetName, ReproduceSettings, reproduce_profile
from usvs.experiments.tables import paper_tables
from usvs.store.identity import ARCHIVE_FILE
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.tasks.initial_encoder import Init
from usvs.utils.text import log_lines

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reproduction:
    """All results, as stored in ``OUT/results.json``; as text, the tables of the preset."""

    results: dict[str, Any]

    def __str__(self) -> str:
        table = evidence_table if self.results["settings"]["preset"] == "evidence" else paper_tables
        return table(self.results)


def reproduce(
    archive_or_store: str | Path,
    out: str | Path,
    settings: ReproduceSettings | None = None,
    *,
    profile: Profile = "paper",
    preset: PresetName = "paper",
    seeds: Sequence[int] = (0, 1, 2),
    imagenet: str | Path | None = None,
    sononet: str | Path | None = None,
    allow_overlap: bool = False,
    rows: Sequence[str] | None = None,
    jobs: int | None = None,
    **overrides: Any,
) -> Reproduction:
    """Measure what is not stored yet of the paper's experiments, then write ``OUT/results.json``.

    Args:
        archive_or_store: an archive, which is indexed and prepared into ``OUT/store``, or a store.
        out: a new folder, or one of an earlier call with the same settings, store and code.
        settings: None for those of `reproduce_profile` with `profile` and `preset`.
        profile: ``paper`` or ``quick``; ignored where `settings` are given.
        preset: ``paper`` for the tables, or ``evidence``, see `usvs.experiments.presets`; ignored where `settings` are
            given.
        seeds: of weights, sampling and folds.
        imagenet: a file of weights, ``timm`` or ``torchvision``; None: that row is not run.
        sononet: a file of weights; None: that row is not run.
        allow_overlap: pretrain and test on all patients. The paper does not say that its sets are disjoint; without
            this option they are.
        rows: keys of `usvs.experiments.rows.ROWS`, of the preset ``paper``; None: all. A later call adds others.
        jobs: number of pretrainings and measurements that run at once, as of `usvs.finetune`.
        **overrides: settings that replace those of `settings` or `profile`; see `usvs.config.override_settings`.

    Raises:
        DataError: for an archive or a store that lacks patients, speech, or both labels and gaze.
        ConfigError: for an unknown row, a folder with other content, or with results of other settings, data or code.
        Preempted: after SIGTERM or SIGINT; pretrainings are saved, and the same call continues.
    """
    archive_or_store, out = Path(archive_or_store), Path(out)
    settings = override_settings(settings or reproduce_profile(profile, preset), **overrides)
    if rows is not None and settings.preset != "paper":
        raise ConfigError(f"rows: expected preset 'paper', got '{settings.preset}', which is run completely")
    store_folder = prepared_store_folder(archive_or_store, out, settings.profile)
    weights = {"imagenet": imagenet, "sononet": sononet}
    external: dict[str, Init] = {row: f"{row}:{path}" for row, path in weights.items() if path}
    definition = Definition(PreparedStore(store_folder), settings, external, allow_overlap, rows)
    with definition.open(out / "run") as experiment:
        content = definition.measure(experiment, list(seeds), jobs)
        folders = {"ARCHIVE": archive_or_store, "STORE": store_folder, "OUT": out}
        return Reproduction(experiment.write_results(out, folders, content))


def prepared_store_folder(archive_or_store: Path, out: Path, profile: Profile) -> Path:
    """Return the folder of a prepared store; an archive is indexed and prepared into ``OUT/store`` first."""
    if (archive_or_store / ARCHIVE_FILE).is_file():
        return archive_or_store
    store = out / "store"
    log_lines(logger, index_archive(archive_or_store, store))
    log_lines(logger, prepare_store(store, profile=profile))
    return store
