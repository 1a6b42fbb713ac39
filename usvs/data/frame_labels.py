"""A user's own labels, as names or numbers, turned into the integer labels of frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from usvs.archive.class_list import UNLABELLED
from usvs.errors import ConfigError
from usvs.store.catalogue import Catalogue
from usvs.store.prepared import PreparedStore


class ClassLabels(NamedTuple):
    """Integer labels and what they mean.

    Attributes:
        label: [n] int64 class number, -1 where there is no label.
        classes: name of each class, by number.
    """

    label: NDArray[np.int64]
    classes: tuple[str, ...]


def encode_labels(values: ArrayLike | Tensor, classes: Sequence[str] | None) -> ClassLabels:
    """Turn class names or numbers into integer labels.

    Args:
        values: [n] names or integers; None, "" and negative numbers mean no label.
        classes: names by number; None: the names found, sorted, or the numbers 0 .. highest.

    Raises:
        ConfigError: for a name that is not in `classes`, or a number past their end.
    """
    column = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if np.issubdtype(column.dtype, np.integer):
        label = np.maximum(column.astype(np.int64), UNLABELLED)
        highest = int(label.max(initial=UNLABELLED))
        names = tuple(str(number) for number in range(highest + 1)) if classes is None else tuple(classes)
        if highest >= len(names):
            raise ConfigError(f"labels: expected numbers below {len(names)}, the number of classes, got {highest}")
        return ClassLabels(label, names)
    texts = ["" if value is None or value == UNLABELLED else str(value) for value in column.ravel().tolist()]
    found = sorted(set(texts) - {""})
    names = tuple(found if classes is None else classes)
    number_of = {name: number for number, name in enumerate(names)} | {"": UNLABELLED}
    if unknown := [name for name in found if name not in number_of]:
        raise ConfigError(f"labels: expected one of {', '.join(names)}, got '{unknown[0]}'")
    return ClassLabels(np.array([number_of[text] for text in texts], np.int64).reshape(column.shape), names)


def labels_of_scans(store: PreparedStore, labels: Mapping[str, Any]) -> dict[int, NDArray[Any]]:
    """Return one label per frame for each scan that a mapping names.

    Args:
        store: the prepared scans.
        labels: from a scan's keyed hash, or its path in the archive, to one class or to one class per frame.

    Returns:
        Scan number to labels [frames of the scan].

    Raises:
        ConfigError: for an empty mapping, a scan that is not prepared, or another number of labels than frames.
    """
    if not labels:
        raise ConfigError("labels: expected at least one scan, got an empty mapping")
    scans = Catalogue.load(Path(store.store)).scans
    key_of = dict(zip(scans["path"].to_pylist(), scans["scan_key"].to_pylist(), strict=True))
    number_of = {key: number for number, key in enumerate(store.scans)}
    by_scan = {}
    for name, values in labels.items():
        number = number_of.get(str(name), number_of.get(key_of.get(str(name), "")))
        if number is None:
            raise ConfigError(f"labels: expected keyed hashes or archive paths of prepared scans, got '{name}'")
        frames = len(store.scan(number).frame_seconds)
        column = np.asarray(values)
        if column.ndim == 0:
            column = np.full(frames, column[()])
        if column.shape != (frames,):
            raise ConfigError(f"labels of scan {name}: expected one class or {frames}, got {list(column.shape)}")
        by_scan[number] = column
    return by_scan
