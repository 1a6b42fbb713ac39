"""The delimiter of csv files, one definition for the manifest, labels, gaze and importers."""

from pathlib import Path

import pytest

from usvs.archive.csv_rows import detect_delimiter, open_csv


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("scan,patient,split", ","),
        ("scan;patient;split", ";"),
        ("scan\tpatient\tsplit", "\t"),
        ("scan", ","),
        ("", ","),
        ("Recording timestamp [ms]\tGaze point X, left\tEvent", "\t"),
        ("scan;remarks, dates;patient", ";"),
        ('scan,"a;b;c;d",patient', ","),
    ],
)
def test_the_delimiter_is_detected(header: str, delimiter: str):
    assert detect_delimiter(header) == delimiter


def test_a_tab_separated_csv_with_a_comma_in_a_column_name(tmp_path: Path):
    (tmp_path / "a.csv").write_text("scan\tremarks, dates\tpatient\na.mp4\t\t7\n")
    with open_csv(tmp_path / "a.csv", "manifest.csv") as file:
        assert [row.values["patient"] for row in file.rows] == ["7"]
