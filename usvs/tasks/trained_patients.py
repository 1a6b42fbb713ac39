"""The list of patients that a pretraining run keeps: who was trained on, by the store whose keys they are."""

import json
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from usvs.errors import DataError
from usvs.evaluation.folds import some_keys
from usvs.store.prepared import PreparedStore
from usvs.store.translation import find_stores, patients_of_scans, scans_of_patients, translate_keys
from usvs.training.run_folder import PATIENTS
from usvs.utils.regular_files import read_regular_text

logger: logging.Logger = logging.getLogger(__name__)

Listed = TypeVar("Listed")
SCANS = "scans"  # in patients.json
NO_ID = ""  # in place of the store id in runs of earlier versions


class TrainedScans(NamedTuple):
    """Scans of a store when a run was trained on it; their keys stay, those of their patients may change.

    Attributes:
        trained: keys of the scans that it was trained on.
        other: keys of all other scans.
    """

    trained: frozenset[str] = frozenset()
    other: frozenset[str] = frozenset()


def trained_patients(init: Path) -> dict[str, frozenset[str]] | None:
    """Return the patients a pretrained run was trained on, keyed hashes by store id; None where there is no list.

    Args:
        init: a pretraining run, one of its checkpoints or a file in one; its list is there or above.

    Raises:
        DataError: where the list is damaged.
    """
    return _read(init, _parse)


def trained_scans(init: Path) -> dict[str, TrainedScans]:
    """Return the scans a pretrained run was trained on, by store id; empty for runs of earlier versions.

    Args and errors are those of `trained_patients`.
    """
    return _read(init, _parse_scans) or {}


def _read(init: Path, parse: Callable[[Mapping[str, Any]], Listed]) -> Listed | None:
    start = init.resolve()
    for folder in (start, *list(start.parents)[:3]):  # a run, run/checkpoints/step_..., or a file in that
        listing = folder / PATIENTS
        if listing.is_file():
            try:
                return parse(json.loads(read_regular_text(listing)))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f"'{listing}': expected a list of patient keys under 'trained', got {error!r}"
                ) from None
    return None


def describe_patients(
    store_id: str,
    trained: Collection[str],
    validation: Collection[str],
    before: Mapping[str, Collection[str]],
    scans: Mapping[str, TrainedScans] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the content of patients.json.

    Args:
        store_id: of the store that the run was trained on.
        trained: keys of the patients that it was trained on.
        validation: keys of its validation patients.
        before: those that its initial weights were trained on, by store id.
        scans: of the run and of its initial weights, by store id.
    """
    own = sorted({*trained, *before.get(store_id, ())})
    record: dict[str, Any] = {"store": store_id, "trained": own, "validation": list(validation)}
    if others := {other: sorted(keys) for other, keys in sorted(before.items()) if other != store_id and keys}:
        record["trained_in_other_stores"] = others
    if scans:
        record[SCANS] = {
            store: {"trained": sorted(found.trained), "other": sorted(found.other)}
            for store, found in sorted(scans.items())
        }
    return record


def join_scans(
    store: Path, store_id: str, keys: Collection[str], before: Mapping[str, TrainedScans]
) -> dict[str, TrainedScans]:
    """Return the scans of patients in a store together with those that the initial weights were trained on."""
    found, other = scans_of_patients(store, keys)
    known = before.get(store_id, TrainedScans())
    trained = found | known.trained
    return {**before, store_id: TrainedScans(trained, (other | known.other) - trained)}


def describe_moved_scans(
    scans: Mapping[str, TrainedScans], store: PreparedStore, tested: Collection[str]
) -> str | None:
    """Return why test patients may have scans that were trained on under other keys; None where they cannot.

    A file that was moved within the archive has a new key: its old one is gone and the new one was not there before.
    """
    before = scans.get(store.store_id)
    if before is None:
        return None
    of_tested, others = scans_of_patients(store.store, tested)
    gone, new = before.trained - of_tested - others, of_tested - before.trained - before.other
    if not gone or not new:
        return None
    return (
        f"{len(gone)} of {len(before.trained)} scans that were pretrained on are not in the store any more, and "
        f"{len(new)} scans of test patients are new in it ({some_keys(sorted(new))}): they may be the same, moved"
    )


def patients_in_store(
    trained: Mapping[str, frozenset[str]],
    store: PreparedStore,
    init: str,
    init_stores: Collection[str | Path] = (),
    allow_overlap: bool = False,
    scans: Mapping[str, TrainedScans] = MappingProxyType({}),
) -> tuple[frozenset[str], bool]:
    """Return the keys in `store` of the patients that a run was trained on.

    Args:
        trained: as of `trained_patients`.
        store: whose keys are needed.
        init: name of the run, for messages.
        init_stores: folders of the stores that the run was trained on; through their catalogues keys are translated.
        allow_overlap: log what cannot be compared instead of raising.
        scans: as of `trained_scans`; whoever they are of by now is among the patients.

    Returns:
        The keys, and whether all patients could be compared.

    Raises:
        DataError: where patients are of a store that is not at hand.
    """
    found, complete, folders = set(trained.get(store.store_id, ())), True, find_stores(init_stores)
    found |= patients_of_scans(store.store, scans.get(store.store_id, TrainedScans()).trained)
    for other in sorted(set(trained) - {store.store_id}):
        keys = trained[other]
        if not keys:
            continue
        if other in folders:
            by_now = patients_of_scans(folders[other], scans.get(other, TrainedScans()).trained)
            found |= translate_keys(keys | by_now, folders[other], store.store)
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


def _parse_scans(record: Mapping[str, Any]) -> dict[str, TrainedScans]:
    return {
        str(store): TrainedScans(frozenset(map(str, found["trained"])), frozenset(map(str, found["other"])))
        for store, found in record.get(SCANS, {}).items()
    }
