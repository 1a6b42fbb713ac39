"""Patients that a pretrained encoder has seen, against those that are tested."""

import json
import logging
from collections.abc import Collection
from pathlib import Path

from usvs.errors import DataError
from usvs.evaluation.folds import some_keys
from usvs.training.run_folder import PATIENTS

logger = logging.getLogger(__name__)


def check_pretraining_overlap(init: Path, test_patients: Collection[str], allow_overlap: bool = False) -> str:
    """Refuse to test on people whose scans an encoder was pretrained on; labels or not, it has seen them.

    Args:
        init: a pretraining run, one of its checkpoints or a file in one; its list of patients lies there or above.
        test_patients: keyed hashes of those to be tested on.
        allow_overlap: say it and go on.

    Returns:
        ``disjoint``, ``overlap`` (allowed) or ``unknown`` (the weights come without a list; said, not refused).

    Raises:
        DataError: naming the shared keyed hashes.
    """
    trained, tested = trained_patients(init), set(test_patients)
    if trained is None:
        logger.info(
            f"{init.name}: has no list of pretraining patients, so an overlap with the test patients is not ruled out"
        )
        return "unknown"
    shared = sorted(trained & tested)
    if not shared:
        return "disjoint"
    found = f"{len(shared)} of {len(tested)} test patients were pretrained on"
    if not allow_overlap:
        raise DataError(f"{found} ({some_keys(shared)}): pretrain without them, or type --allow-overlap")
    logger.info(f"{found}; going on, as allowed")
    return "overlap"


def trained_patients(init: Path) -> frozenset[str] | None:
    """Return the patients a pretrained run was trained on (keyed hashes), or None where that is not written down."""
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
