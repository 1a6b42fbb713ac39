"""The list of patients that a pretraining run keeps: who was trained on, by the store whose keys they are."""

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from usvs.errors import DataError
from usvs.store.prepared import PreparedStore
from usvs.store.translation import find_stores, translate_keys
from usvs.training.run_folder import PATIENTS
from usvs.utils.regular_files import read_regular_text

logger: logging.Logger = logging.getLogger(__name__)

NO_ID = ""  # in place of the store id in runs of earlier versions


def trained_patients(init: Path) -> dict[str, frozenset[str]] | None:
    """Return the patients a pretrained run was trained on, keyed hashes by store id; None where there is no list.

    Args:
        init: a pretraining run, one of its checkpoints or a file in one; its list is there or above.

    Raises:
        DataError: where the list is damaged.
    """
    start = init.resolve()
    for folder in (start, *list(start.parents)[:3]):  # a run, run/checkpoints/step_..., or a file in that
        listing = folder / PATIENTS
        if listing.is_file():
            try:
                return _parse(json.loads(read_regular_text(listing)))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"'{listing}': expected a list of patient keys under 'trained', got {error!r}"
                ) from None
    return None


def describe_patients(
    store_id: str, trained: Collection[str], validation: Collection[str], before: Mapping[str, Collection[str]]
) -> dict[str, Any]:
    """Return the content of patients.json.

    Args:
        store_id: of the store that the run was trained on.
        trained: keys of the patients that it was trained on.
        validation: keys of its validation patients.
        before: those that its initial weights were trained on, by store id.
    """
    own = sorted({*trained, *before.get(store_id, ())})
    record: dict[str, Any] = {"store": store_id, "trained": own, "validation": list(validation)}
    if others := {other: sorted(keys) for other, keys in sorted(before.items()) if other != store_id and keys}:
        record["trained_in_other_stores"] = others
    return record


def patients_in_store(
    trained: Mapping[str, frozenset[str]],
    store: PreparedStore,
    init: str,
    init_stores: Collection[str | Path] = (),
    allow_overlap: bool = False,
) -> tuple[frozenset[str], bool]:
    """Return the keys in `store` of the patients that a run was trained on.

    Args:
        trained: as of `trained_patients`.
        store: whose keys are needed.
        init: name of the run, for messages.
        init_stores: folders of the stores that the run was trained on; through their catalogues keys are translated.
        allow_overlap: log what cannot be compared instead of raising.

    Returns:
        The keys, and whether all patients could be compared.

    Raises:
        DataError: where patients are of a store that is not at hand.
    """
    found, complete, folders = set(trained.get(store.store_id, ())), True, find_stores(init_stores)
    for other in sorted(set(trained) - {store.store_id}):
        keys = trained[other]
        if not keys:
            continue
        if other in folders:
            found |= translate_keys(keys, folders[other], store.store)
            continue
        complete = False
        whose = f"store {other}" if other != NO_ID else "a store without an id (a run of an earlier version)"
        message = (
            f"{init}: {len(keys)} of its pretraining patients are of {whose}, not of store {store.store_id}: keys of "
            "different stores cannot be compared, so an overlap is not ruled out"
        )
        if not allow_overlap:
            way_out = "--init-store STORE to compare them through the names in the store of that run, or "
            raise DataError(f"{message}: type {'' if other == NO_ID else way_out}--allow-overlap")
        logger.warning(f"{message}: allowed by --allow-overlap")
    return frozenset(found), complete


def _parse(record: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    lists = {str(record.get("store", NO_ID)): record["trained"], **record.get("trained_in_other_stores", {})}
    for keys in lists.values():
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise TypeError(f"a list of texts was expected, not {type(keys).__name__}")
    return {store: frozenset(keys) for store, keys in lists.items()}
