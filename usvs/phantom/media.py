"""Csv files of a scan as an eye tracker and a sonographer write them: gaze and plane labels."""

import csv
from pathlib import Path

from usvs.phantom.gaze import Gaze


def write_gaze(path: Path, gaze: Gaze) -> None:
    """Write eye tracker samples with the columns ``timestamp_us,x,y,valid``."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("timestamp_us", "x", "y", "valid"))
        for second, (x, y), valid in zip(gaze.seconds, gaze.points, gaze.valid, strict=True):
            rows.writerow((round(second * 1e6), f"{x:.5f}", f"{y:.5f}", int(valid)))


def write_planes(path: Path, intervals: list[tuple[float, float, str]]) -> None:
    """Write plane labels with the columns ``start_seconds,end_seconds,plane``."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("start_seconds", "end_seconds", "plane"))
        rows.writerows((f"{start:.4f}", f"{end:.4f}", plane) for start, end, plane in intervals)
