"""Overlap of the patients that an encoder was pretrained on with the test patients."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.data.patients import pretraining_keys
from usvs.errors import DataError
from usvs.evaluation.folds import some_keys
from usvs.store.prepared import PreparedStore
from usvs.store.translation import keys_without_patient, known_keys
from usvs.tasks.initial_encoder import Init, parse_init
from usvs.tasks.task import Table
from usvs.tasks.trained_patients import describe_moved_scans, patients_in_store, trained_patients, trained_scans
from usvs.training.run_folder import PATIENTS

logger: logging.Logger = logging.getLogger(__name__)


def check_pretraining_overlap(
    init: Path,
    store: PreparedStore,
    test_patients: Collection[str],
    allow_overlap: bool = False,
    init_stores: Collection[str | Path] = (),
) -> str:
    """Check that no test patient was pretrained on, with or without labels.

    Args:
        init: a pretraining run, one of its checkpoints or a file in one; its list of patients is there or above.
        store: that the test patients are of.
        test_patients: keyed hashes of the test patients.
        allow_overlap: log an overlap instead of raising.
        init_stores: folders of other stores that `init` was pretrained on.

    Returns:
        ``disjoint``, ``overlap`` (allowed), ``not comparable`` (allowed) or ``unknown`` (the weights have no list of
        patients; logged).

    Raises:
        DataError: naming the shared keyed hashes; or where an overlap cannot be ruled out: the run was trained on
            another store, on patients that are not in the store any more, or on scans of unknown patients.
    """
    listed, tested = trained_patients(init), set(test_patients)
    if listed is None:
        logger.info(
            f"{init.name}: no list of pretraining patients, so an overlap with the test patients is not ruled out"
        )
        return "unknown"
    scans = trained_scans(init)
    trained, complete = patients_in_store(listed, store, init.name, init_stores, allow_overlap, scans)
    if shared := sorted(trained & tested):
        found = f"{len(shared)} of {len(tested)} test patients were pretrained on"
        if not allow_overlap:
            raise DataError(
                f"{found} ({some_keys(shared)}): use only patients that were not pretrained on, by --patients held-out"
                " (in Python patients='held-out'), or allow it by --allow-overlap"
            )
        logger.info(f"{found}: allowed by --allow-overlap")
        return "overlap"
    if doubt := _doubt(trained, tested, store) or describe_moved_scans(scans, store, tested):
        message = f"{init.name}: {doubt}, so an overlap with the test patients is not ruled out"
        if not allow_overlap:
            raise DataError(f"{message}: pretrain again, or type --allow-overlap")
        logger.warning(f"{message}: allowed by --allow-overlap")
        complete = False
    return "disjoint" if complete else "not comparable"


def _doubt(trained: Collection[str], tested: Collection[str], store: PreparedStore) -> str | None:
    """Return why keys that differ may be of one patient, None where they cannot be."""
    if gone := sorted(set(trained) - known_keys(store)):
        return (
            f"{len(gone)} of {len(trained)} pretraining patients are not in the store any more ({some_keys(gone)}; "
            "their folders, PatientIDs or names in manifest.csv have changed)"
        )
    unknown = keys_without_patient(store)
    in_training = sorted(set(trained) & unknown)
    if in_training and not set(tested) <= unknown:  # with --group-by scan, all scans count as patients of their own
        return (
            f"{len(in_training)} scans of unknown patients were pretrained on ({some_keys(in_training)}): name their "
            "patients in manifest.csv"
        )
    return None


def overlaps(
    inits: Sequence[Init],
    names: Sequence[str],
    store: PreparedStore,
    tested: Collection[str],
    allow: bool,
    init_stores: Collection[str | Path] = (),
) -> dict[str, str]:
    """Check every pretrained init against the test patients; return the result of `check_pretraining_overlap` for each.

    Weights from elsewhere are ``external``: no patient of this archive is known to be in their training data.

    Args:
        inits: the initial encoders.
        names: of each, in the result.
        store: that the test patients are of.
        tested: keyed hashes of the test patients.
        allow: log an overlap instead of raising.
        init_stores: folders of other stores that inits were pretrained on.

    Raises:
        DataError: naming the shared keyed hashes.
    """
    found = {}
    for init, name in zip(inits, names, strict=True):
        parsed = parse_init(init)
        if parsed.is_external:
            found[name] = "external"
        elif parsed.kind == "run":
            found[name] = check_pretraining_overlap(parsed.path, store, tested, allow, init_stores)
    return found


def held_out_rows(
    store: PreparedStore, table: Table, inits: Sequence[Init], init_stores: Collection[str | Path] = ()
) -> NDArray[np.bool_]:
    """Return which rows of the table [n] are of patients that no init was pretrained on.

    Raises:
        DataError: where there is none, or an init has no list of its pretraining patients, or they are of another
            store.
    """
    seen: set[str] = set()
    for init in inits:
        parsed = parse_init(init)
        if parsed.kind != "run":
            continue
        listed = trained_patients(parsed.path)
        if listed is None:
            raise DataError(f"init '{init}' carries no list of pretraining patients: expected {PATIENTS} in its run")
        seen |= patients_in_store(listed, store, str(init), init_stores, scans=trained_scans(parsed.path))[0]
    keys = pretraining_keys(store, np.unique(table.scan).tolist())
    kept = np.array([keys[number] not in seen for number in table.scan.tolist()], np.bool_)
    if not kept.any():
        raise DataError(
            "every labelled patient was pretrained on: pretrain again with validation patients, which are left out of"
            " training (setting validation_fraction)"
        )
    return kept
