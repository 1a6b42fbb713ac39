"""`usvs.save_report`: the report of a run, a store or a fine-tuning as one HTML file."""

import logging
from pathlib import Path

from usvs.errors import ConfigError, DataError, UsvsError
from usvs.report.finetuned_page import finetuned_page
from usvs.report.finetuned_results import FINETUNE_FILE
from usvs.report.page import REPORT
from usvs.report.pretraining_page import pretraining_page
from usvs.report.pretraining_samples import measure_pretraining
from usvs.report.store_page import store_page
from usvs.store.folder import CATALOGUE
from usvs.store.identity import ARCHIVE_FILE
from usvs.tasks.diagnosis.losses import RunReading
from usvs.tasks.diagnosis.verdict import Verdict
from usvs.tasks.provenance import RESULTS_FILE
from usvs.training.checkpoint import step_folders
from usvs.training.metrics_log import METRICS
from usvs.training.run_folder import CHECKPOINTS, CONFIG
from usvs.utils.text import shell_command

logger: logging.Logger = logging.getLogger(__name__)

PRETRAINING, FINETUNING, STORE = "pretraining", "fine-tuning", "store"


def save_report(
    folder: str | Path,
    *,
    store: str | Path | None = None,
    labels: str | Path | None = None,
    names: bool = False,
    out: str | Path | None = None,
    reading: RunReading | None = None,
    verdict: Verdict | None = None,
) -> Path:
    """Write the report of a pretraining run, a store or a fine-tuning: one HTML file that loads nothing.

    It is drawn from what is in the folder, so it can be written while a run is going on, and after a crash.

    Example:
        >>> usvs.save_report("RUN", store="STORE")

    Args:
        folder: of `usvs.pretrain`, `usvs.index_archive` or `usvs.finetune`.
        store: that a run or a fine-tuning was trained on: adds what has to be measured or read there, the verdict,
            retrieval and map of embeddings, or timelines of test scans. What is measured of a pretraining is kept in
            its folder.
        labels: intervals to colour the map by, as of `usvs.diagnose`; None: the store's.
        names: show the paths of files beside the keys of scans; by default no name of the archive is in a report.
        out: the file; None: ``report.html`` in `folder`.
        reading: of a run that has just been trained; None: it is measured where `store` is given.
        verdict: on it; likewise.

    Returns:
        The file, which only its owner may read.

    Raises:
        DataError: for a folder of another kind, or a run and a store that do not belong together.
        ConfigError: for an argument that this kind of folder does not have.
        ResourceError: where the file cannot be written.
    """
    path = Path(folder)
    kind = kind_of_folder(path)
    file = path / REPORT if out is None else Path(out)
    if kind == STORE and (store is not None or labels is not None):
        raise ConfigError(f"report of store '{folder}': expected no --store and no --labels, got one: they are of runs")
    if kind == FINETUNING and labels is not None:
        raise ConfigError(f"report of '{folder}': expected no --labels for a fine-tuning, which has its own classes")
    if labels is not None and store is None:
        raise ConfigError("--labels: expected --store STORE with it, whose scans they are of, got none")
    if out is not None and file.is_dir():
        raise ConfigError(f"--out: expected a file, got the folder '{file}'")
    if kind == STORE:
        page = store_page(path, names)
    elif kind == FINETUNING:
        page = finetuned_page(path, None if store is None else Path(store), names)
    else:
        if store is not None and step_folders(path / CHECKPOINTS):
            measure_pretraining(path, Path(store), labels, reading, verdict)
        elif store is not None:
            logger.info("report: there is no checkpoint yet, so nothing is measured with the store")
        page = pretraining_page(path, names=names)
    return page.save(file)


def report_after(folder: Path, store: Path, reading: RunReading | None = None, verdict: Verdict | None = None) -> None:
    """Write the report of a run that has just ended; where that fails, log how it can be made.

    Arguments are those of `save_report`.
    """
    try:
        logger.info(f"report: '{save_report(folder, store=store, reading=reading, verdict=verdict)}'")
    except (UsvsError, OSError) as error:
        command = shell_command("usvs", "report", folder, "--store", store)
        logger.warning(f"the run is complete, but its report could not be written ({error}); try again: {command}")


def kind_of_folder(folder: Path) -> str:
    """Return what a folder is of: `PRETRAINING`, `FINETUNING` or `STORE`.

    Raises:
        DataError: where it is none of these.
    """
    if (folder / ARCHIVE_FILE).is_file() or (folder / CATALOGUE).is_dir():
        return STORE
    if (folder / FINETUNE_FILE).is_file():
        return FINETUNING
    if (folder / CONFIG).is_file() or (folder / METRICS).is_file():
        return PRETRAINING
    if (folder / RESULTS_FILE).is_file():
        return FINETUNING
    got = "a folder without any of their files" if folder.is_dir() else "no such folder"
    raise DataError(f"'{folder}': expected a folder of 'usvs pretrain', 'usvs index' or 'usvs finetune', got {got}")
