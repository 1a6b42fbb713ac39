from pathlib import Path

import numpy as np
import pytest

from usvs.archive.plane_labels import BACKGROUND, PLANES, read_plane_labels
from usvs.errors import DataError

HEAD = "start_seconds,end_seconds,plane\n"


def test_the_list_is_the_papers():
    assert len(PLANES) == len(set(PLANES)) == 14
    assert PLANES[BACKGROUND] == "background"


def test_intervals_are_half_open(tmp_path: Path):
    path = tmp_path / "a.planes.csv"
    path.write_text(HEAD + "2.0,3.5,femur\n0.0,2.0,4CH\n")
    labels = read_plane_labels(path).at(np.array([-0.1, 0.0, 1.99, 2.0, 3.49, 3.5, 9.0]))
    femur, heart = PLANES.index("femur"), PLANES.index("4CH")
    np.testing.assert_array_equal(labels, [-1, heart, heart, femur, femur, -1, -1])
    assert labels.dtype == np.int16


def test_an_empty_list_labels_nothing(tmp_path: Path):
    path = tmp_path / "a.planes.csv"
    path.write_text(HEAD)
    np.testing.assert_array_equal(read_plane_labels(path).at(np.array([0.0, 1.0])), [-1, -1])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "0,1,femor\n", "line 2: unknown plane 'femor'"),
        (HEAD + "0,1,femur\n0.5,2,4CH\n", "begins before the end of another"),
        (HEAD + "0,1,femur\n2,2,4CH\n", "line 3: wanted start before end"),
        (HEAD + "soon,2,4CH\n", "must be numbers"),
        ("from,to,plane\n0,1,femur\n", "'start_seconds' is missing"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, words: str):
    path = tmp_path / "a.planes.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_plane_labels(path)
