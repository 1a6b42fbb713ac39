"""Overlap of the patients that an encoder was pretrained on with the test patients."""

import json
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.data.patients import pretraining_keys
from usvs.errors import DataError
from usvs.evaluation.folds import some_keys
from usvs.store.prepared import PreparedStore
from usvs.tasks.initial_encoder import Init, parse_init
from usvs.tasks.task import Table
from usvs.training.run_folder import PATIENTS

logger = logging.getLogger(__name__)


def check_pretraining_overlap(init: Path, test_patients: Collection[str], allow_overlap: bool = False) -> str:
    """Check that no test patient was pretrained on, with or without labels.

    Args:
        init: a pretraining run, one of its checkpoints or a file in one; its list of patients is there or above.
        test_patients: keyed hashes of the test patients.
        allow_overlap: log an overlap instead of raising.

    Returns:
        ``disjoint``, ``overlap`` (allowed) or ``unknown`` (the weights have no list of patients; logged).

    Raises:
        DataError: naming the shared keyed hashes.
    """
    trained, tested = trained_patients(init), set(test_patients)
    if trained is None:
        logger.info(
            f"{init.name}: no list of pretraining patients, so an overlap with the test patients is not ruled out"
        )
        return "unknown"
    shared = sorted(trained & tested)
    if not shared:
        return "disjoint"
    found = f"{len(shared)} of {len(tested)} test patients were pretrained on"
    if not allow_overlap:
        raise DataError(
            f"{found} ({some_keys(shared)}): type --patients held-out to use only patients that were not pretrained on,"
            " or --allow-overlap"
        )
    logger.info(f"{found}: allowed by --allow-overlap")
    return "overlap"


def trained_patients(init: Path) -> frozenset[str] | None:
    """Return the patients a pretrained run was trained on (keyed hashes), or None where there is no list."""
    start = init.resolve()
    for folder in (start, *list(start.parents)[:3]):  # a run, run/checkpoints/step_..., or a file in that
        listing = folder / PATIENTS
        if listing.is_file():
            try:
                return frozenset(json.loads(listing.read_text(encoding="utf-8"))["trained"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"'{listing}': expected a list of patient keys under 'trained', got {error!r}"
                ) from None
    return None


def overlaps(inits: Sequence[Init], names: Sequence[str], tested: Collection[str], allow: bool) -> dict[str, str]:
    """Check every pretrained init against the test patients; return the result of `check_pretraining_overlap` for each.

    Weights from elsewhere are ``external``: no patient of this archive is known to be in their training data.

    Args:
        inits: the initial encoders.
        names: of each, in the result.
        tested: keyed hashes of the test patients.
        allow: log an overlap instead of raising.

    Raises:
        DataError: naming the shared keyed hashes.
    """
    found = {}
    for init, name in zip(inits, names, strict=True):
        parsed = parse_init(init)
        if parsed.is_external:
            found[name] = "external"
        elif parsed.kind == "run":
            found[name] = check_pretraining_overlap(parsed.path, tested, allow)
    return found


def held_out_rows(store: PreparedStore, table: Table, inits: Sequence[Init]) -> NDArray[np.bool_]:
    """Return which rows of the table [n] are of patients that no init was pretrained on.

    Raises:
        DataError: where there is none, or an init has no list of its pretraining patients.
    """
    seen: set[str] = set()
    for init in inits:
        parsed = parse_init(init)
        trained = trained_patients(parsed.path) if parsed.kind == "run" else frozenset()
        if trained is None:
            raise DataError(f"init '{init}' carries no list of pretraining patients: expected {PATIENTS} in its run")
        seen |= trained
    keys = pretraining_keys(store, np.unique(table.scan).tolist())
    kept = np.array([keys[number] not in seen for number in table.scan.tolist()], np.bool_)
    if not kept.any():
        raise DataError(
            "every labelled patient was pretrained on: pretrain again with validation patients, which are left out of"
            " training (setting validation_fraction)"
        )
    return kept
