"""Tables that hold rows of several recordings: the rows of one scan are chosen by name, or the table is refused."""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from usvs.errors import DataError

# A column identifies recordings if its name is one of these words, alone or with some of those below: `Recording name`,
# `participant_id`, `StudyInstanceUID`. Columns such as `Recording duration` do not.
IDENTITY_WORDS = frozenset({
    *("recording", "participant", "subject", "patient", "person", "respondent", "operator", "observer", "sonographer"),
    *("scan", "video", "movie", "clip", "file", "filename", "session", "study", "series", "exam", "examination"),
    *("case", "visit", "user", "trial", "proband", "reader", "viewer", "rater", "annotator", "labeller", "labeler"),
    *("reviewer", "examiner", "grader", "coder", "radiologist", "physician", "doctor", "clinician", "sonologist"),
})  # fmt: skip
IDENTITY_ENDINGS = frozenset(
    {"name", "id", "uid", "uuid", "no", "nr", "number", "code", "key", "path", "file", "instance"}
)


def find_identity_columns(columns: Iterable[str]) -> list[str]:
    """Return the columns whose values identify a recording, a person or a scan."""
    return [column for column in columns if _is_identity(column)]


def find_rows_of_scan(identities: pa.Table, names: Sequence[str], what: str) -> NDArray[np.bool_]:
    """Return which rows of a table are of one scan [m].

    All are, unless a column has several values. Then the one is chosen that is the scan's path, the end of that path,
    its file name or its file name without suffix; capitals are not regarded, and rows without a value are left out.

    Args:
        identities: the columns that `find_identity_columns` returns, as text.
        names: paths in the archive that name the scan: of its video, of this table.
        what: name of the table, with which error messages begin.

    Raises:
        DataError: if a column still has several values in the chosen rows.
    """
    words = {name: pc.utf8_lower(pc.utf8_trim_whitespace(identities[name])) for name in identities.column_names}
    is_chosen: NDArray[np.bool_] = np.ones(identities.num_rows, bool)
    for column in words.values():
        values = _distinct(column, is_chosen)
        if len(values) > 1 and len(found := [value for value in values if _is_name_of(value, names)]) == 1:
            is_chosen &= pc.equal(column, found[0]).to_numpy(zero_copy_only=False)
    for name, column in words.items():
        if (count := len(_distinct(column, is_chosen))) > 1:
            raise DataError(
                f"{what}: several recordings in one table: expected one, or one that is named as the video file is, "
                f"got {count} values in column '{name}'"
            )
    return is_chosen


def _is_identity(column: str) -> bool:
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", column).lower())
    return bool(words) and words[0] in IDENTITY_WORDS and all(word in IDENTITY_ENDINGS for word in words[1:])


def _distinct(column: pa.ChunkedArray, is_chosen: NDArray[np.bool_]) -> list[str]:
    return [value for value in pc.unique(column.filter(pa.array(is_chosen))).to_pylist() if value]


def _is_name_of(value: str, names: Sequence[str]) -> bool:
    stated = PurePosixPath(value.replace("\\", "/")).parts
    for name in names:
        path = PurePosixPath(name.lower())
        for parts in (
            path.parts,
            path.with_name(path.name.split(".")[0] or path.name).parts,
            path.with_suffix("").parts,
        ):
            if stated and parts[-len(stated) :] == stated:
                return True
    return False
