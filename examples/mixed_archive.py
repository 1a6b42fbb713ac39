"""Compose one table of labelled videos out of several sources, for `usvs narrate`: an archive of several exam types.

A hospital's archive holds many kinds of examination. This script lists the lung clips of COVID-BLUES (three points on
the chest), published lung clips (three findings, and a linear probe as a class of its own) and echocardiograms, with
the source of each, so that clips of one source are never in the training and in the test part.

    python examples/mixed_archive.py labels.csv --blues data/blues --lung data --echo echo1.dcm echo2.dcm
    usvs narrate / archive --labels labels.csv --lexicon examples/lexicons/mixed.toml --scans 72 --part train
    usvs narrate / archive_test --labels labels.csv --lexicon examples/lexicons/mixed.toml --scans 24 --part test
"""

import argparse
import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from usvs.media import read_video_info

COLUMNS = ("file", "label", "patient", "exam")
POINTS = {"1": "upper_anterior", "2": "lower_anterior", "3": "posterolateral"}
FINDINGS = ("regular", "pneumonia", "covid")  # two further clips show viral pneumonia: too few for a class


def iter_blues(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield the clips of COVID-BLUES, labelled with their BLUE point."""
    for row in _read(folder / "labels.csv"):
        yield str(folder / row["file"]), POINTS[row["point"]], f"blues {row['patient']}", "lung points"


def iter_lung(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield published lung clips, labelled with their finding, or as linear by their probe."""
    for row in _read(folder / "lung_videos.csv"):
        label = "linear" if row["probe"] == "linear" else row["label"]
        if label in FINDINGS or label == "linear":
            exam = "linear lung" if label == "linear" else "lung findings"
            yield str(folder / "lung_videos" / row["file"]), label, f"lung {row['source_id']}", exam


def iter_echo(files: list[Path]) -> Iterator[tuple[str, str, str, str]]:
    """Yield echocardiograms; DICOM files that state the same patient are of one source."""
    numbers: dict[str, int] = {}
    for file in files:
        source = read_video_info(file).patient or file.stem
        yield str(file.absolute()), "echo", f"echo {numbers.setdefault(source, len(numbers) + 1)}", "echo"


def _read(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Write the table and print how many clips and sources each class has."""
    parser = argparse.ArgumentParser(description="compose a table of labelled videos out of several sources")
    parser.add_argument("out", type=Path, help="the table to write")
    parser.add_argument("--blues", type=Path, help="folder with lus_videos and labels.csv")
    parser.add_argument("--lung", type=Path, help="folder with lung_videos and lung_videos.csv")
    parser.add_argument("--echo", type=Path, nargs="*", default=[], help="echocardiograms")
    options = parser.parse_args()
    rows: list[tuple[str, str, str, str]] = []
    if options.blues:
        rows += iter_blues(options.blues.absolute())
    if options.lung:
        rows += iter_lung(options.lung.absolute())
    rows += iter_echo(options.echo)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows(rows)
    clips = Counter(row[1] for row in rows)
    sources = Counter(label for label, _ in {(row[1], row[2]) for row in rows})
    for label, count in clips.items():
        print(f"{label}: {count} clips of {sources[label]} sources")


if __name__ == "__main__":
    main()
