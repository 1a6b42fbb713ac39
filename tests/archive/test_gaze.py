from pathlib import Path

import numpy as np
import pytest

from usvs.archive.gaze import GazeSamples, average_gaze_per_frame, read_gaze
from usvs.archive.text_table import TextTable
from usvs.errors import DataError
from usvs.media.box import Box

BOX = Box(20, 10, 120, 60)  # in an image of 200 x 100 pixels


def samples(*rows: tuple[float, float, float]) -> GazeSamples:
    seconds, x, y = np.array(rows, np.float64).T
    return GazeSamples(seconds, x, y)


def test_samples_are_sorted_and_invalid_ones_left_out(tmp_path: Path):
    path = tmp_path / "a.gaze.csv"
    path.write_text(
        "timestamp_us,x,y,valid\n20000,0.5,0.6,1\n10000,0.1,0.2,true\n30000,0.9,0.9,0\n40000,,0.5,1\n50000,nan,1,1\n"
    )
    read = read_gaze(path)
    np.testing.assert_allclose(read.seconds, [0.01, 0.02])
    np.testing.assert_allclose(read.x, [0.1, 0.5])
    np.testing.assert_allclose(read.y, [0.2, 0.6])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("timestamp_us,x,y\n1,2,3\n", "'valid' is missing"),
        ("timestamp_us,x,y,valid\nsoon,0,0,1\n", "not readable"),
        ("", "csv"),
    ],
)
def test_an_invalid_csv_is_an_error_of_one_line(tmp_path: Path, text: str, words: str):
    path = tmp_path / "a.gaze.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        read_gaze(path)
    assert "\n" not in str(caught.value)


def test_a_frame_has_the_mean_of_the_samples_within_half_a_frame():
    frame_seconds = np.arange(5) / 10
    gaze = samples(
        (0.049, 0.2, 0.2), (0.06, 0.3, 0.3), (0.10, 0.4, 0.5), (0.149, 0.5, 0.4), (0.3, 0.95, 0.3), (0.4, 0.2, 0.05)
    )
    found = average_gaze_per_frame(gaze, frame_seconds, BOX, 200, 100)
    assert found.dtype == np.float32 and found.shape == (5, 2)
    np.testing.assert_allclose(found[0], [(0.2 * 200 - 20) / 100, (0.2 * 100 - 10) / 50], rtol=1e-6)
    np.testing.assert_allclose(found[1], [(0.4 * 200 - 20) / 100, (0.4 * 100 - 10) / 50], rtol=1e-6)
    assert np.isnan(found[2]).all()  # no samples
    assert np.isnan(found[3:]).all()  # right of the box, above the box


def test_the_average_equals_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    frame_seconds = np.sort(rng.uniform(0, 10, 250))
    gaze = samples(*zip(np.sort(rng.uniform(0, 10, 900)), rng.random(900), rng.random(900), strict=True))
    half = np.median(np.diff(frame_seconds)) / 2
    found = average_gaze_per_frame(gaze, frame_seconds, BOX, 200, 100)
    x, y = (gaze.x * 200 - 20) / 100, (gaze.y * 100 - 10) / 50
    inside = (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
    for moment, row in zip(frame_seconds, found, strict=True):
        near = inside & (gaze.seconds >= moment - half) & (gaze.seconds < moment + half)
        expected = [x[near].mean(), y[near].mean()] if near.any() else [np.nan, np.nan]
        np.testing.assert_allclose(row, expected, rtol=1e-4)


def test_a_table_of_too_many_columns_is_refused_before_it_is_read(tmp_path: Path):
    (tmp_path / "a.gaze.csv").write_text("x," * 5000 + "y\n" + "1," * 5000 + "1\n")
    with pytest.raises(DataError, match=r"^gaze, line 1: expected at most 4096 columns, got 5001$"):
        TextTable.read(tmp_path / "a.gaze.csv", "gaze")
