"""Check of the patient lists of a run: no patient may be on both sides of a split."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from usvs.errors import DataError
from usvs.store.audit import Finding
from usvs.utils.regular_files import read_regular_text

# the two sides of a split as pretraining and fine-tuning write them
SPLIT_KEYS = (("trained", "validation"), ("train", "test"), ("train_patients", "test_patients"))


def audit_run(run: Path) -> tuple[Finding, ...]:
    """Check every split that the JSON files of a run folder list: no patient on both sides, none tested in two folds.

    Args:
        run: a folder of `usvs pretrain` or `usvs finetune`.

    Raises:
        DataError: where it is not a folder, or lists no split.
    """
    if not run.is_dir():
        raise DataError(f"run '{run}' is not a folder")
    splits = 0
    findings: list[Finding] = []
    for file in sorted(run.rglob("*.json")):
        try:
            content = json.loads(read_regular_text(file))
        except (OSError, ValueError):
            findings.append(Finding(f"run {run.name}", f"{file.relative_to(run)} is not readable as JSON"))
            continue
        for where, values in _nodes(content):
            splits += isinstance(values, Mapping) and _find_split(values) is not None
            findings += [Finding(f"run {run.name}", f"{where}: {what}") for what in _findings(values)]
    if not splits:
        raise DataError(f"run '{run}' lists no patients: expected the folder of a pretraining or a fine-tuning")
    return tuple(dict.fromkeys(findings))


def _nodes(content: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    yield where or "patients", content
    parts = content.items() if isinstance(content, Mapping) else enumerate(content) if _is_list(content) else ()
    for name, part in parts:
        yield from _nodes(part, f"{where} {name}".strip())


def _findings(values: Any) -> Iterator[str]:
    if isinstance(values, Mapping) and (split := _find_split(values)) is not None:
        for key in sorted(set(split[0]) & set(split[1])):
            yield f"patient {key} is trained on and tested on"
    if _is_list(values):
        folds = [split for fold in values if isinstance(fold, Mapping) and (split := _find_split(fold)) is not None]
        for (one, first), (other, second) in combinations(enumerate(folds), 2):
            for key in sorted(set(first[1]) & set(second[1])):
                yield f"patient {key} is tested on in folds {one} and {other}"


def _find_split(values: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[str]] | None:
    for one, other in SPLIT_KEYS:
        if _is_list(values.get(one)) and _is_list(values.get(other)):
            return values[one], values[other]
    return None


def _is_list(values: Any) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str)
