"""A table's name of a file finds that scan or none."""

import unicodedata

import pytest

from usvs.archive.scan_names import ScanNames
from usvs.errors import DataError

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "é.mp4") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("paths", "name", "found"),
    [
        (["a\\b.mp4", "a/b.mp4"], "a\\b.mp4", "a\\b.mp4"),  # a name may contain a backslash
        (["a\\b.mp4"], "a\\b.mp4", "a\\b.mp4"),
        ([" x.mp4", "x.mp4"], " x.mp4", " x.mp4"),
        (["a/b.mp4"], ".\\a\\b.mp4", "a/b.mp4"),
        (["a/x.mp4", "b/X.mp4"], "X.mp4", "b/X.mp4"),
        (["a/x.mp4", "x.mp4"], "x", "x.mp4"),
        (["a/x.mp4", "x.mp4"], "./x.mp4", "x.mp4"),
        (["p1/1.mp4"], "1/1.mp4", None),
        (["a/x.mp4"], "/x.mp4", None),
        (["a/x.mp4"], "a/../a/x.mp4", None),
        (["a/x.mp4"], "x.avi", None),
        ([f"a/{DECOMPOSED}"], f"a/{COMPOSED.upper()}", f"a/{DECOMPOSED}"),
        ([COMPOSED, DECOMPOSED], DECOMPOSED, DECOMPOSED),
    ],
)
def test_a_name_finds_one_scan(paths: list[str], name: str, found: str | None):
    assert ScanNames(paths).find(name, "labels.csv") == found


@pytest.mark.parametrize("name", [COMPOSED, DECOMPOSED, "é"])
def test_names_that_differ_in_the_encoding_of_accents_are_not_chosen_from(name: str):
    with pytest.raises(DataError, match=r"labels.csv, line 2: '.*' fits 2 videos"):
        ScanNames([f"a/{COMPOSED}", f"b/{DECOMPOSED}"]).find(name, "labels.csv, line 2")
