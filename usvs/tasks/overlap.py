"""Overlap of the patients that an encoder was pretrained on with the test patients."""

import json
import logging
from collections.abc import Collection
from pathlib import Path

from usvs.errors import DataError
from usvs.evaluation.folds import some_keys
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
