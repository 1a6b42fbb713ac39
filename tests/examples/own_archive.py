"""Runs the commands of the tutorial's section "An archive of your own" and keeps their output.

    python -m tests.examples.own_archive ../shared/data --out docs/results/own_archive.txt

Published lung clips become the archive that the page describes: each gets a recording beside it in which one of four
espeak-ng voices says what its label is, again and again. The commands are those of the page, as printed. Lines of
progress and durations are left out. Without `--out` nothing is kept.
"""

import argparse
import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from usvs.media.video import read_video_info
from usvs.narration.spoken import draw_voices, synthesize_terms
from usvs.training.environment import describe_environment

ROOT = Path(__file__).resolve().parents[2]
PAGE, SECTION = ROOT / "docs" / "tutorial.md", "## An archive of your own"
TERMS = {
    "covid": ("covid", "covid changes of the pleura"),
    "pneumonia": ("pneumonia", "consolidation"),
    "regular": ("regular lung", "a lines, normal sliding"),
}
RATE_HZ, VOICES, PAUSE_SECONDS = 24_000, 4, 0.3
PROGRESS = re.compile(r": \d+ of \d+(, | done)")
DURATION = re.compile(r" in \d+(\.\d+)? (s|minutes)\b")


def section_of_the_page() -> str:
    """Return the text of the tutorial's section."""
    return PAGE.read_text(encoding="utf-8").partition(SECTION)[2].partition("\n## ")[0]


def commands_of_the_page() -> list[str]:
    """Return the commands of the tutorial's section."""
    blocks = re.findall(r"^```\n(.*?)^```", section_of_the_page(), flags=re.S | re.M)
    return next(block for block in blocks if block.startswith("usvs ")).splitlines()


def write_archive(data: Path, folder: Path) -> None:
    """Write `folder`/lung_clips and `folder`/classes.txt from a folder with lung_videos and lung_videos.csv."""
    archive = folder / "lung_clips"
    archive.mkdir()
    with (data / "lung_videos.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in TERMS]
    speech = {label: _speak(terms) for label, terms in TERMS.items()}
    lines = ["file,label,patient"]
    for number, row in enumerate(rows):
        clip = archive / row["file"]
        shutil.copy(data / "lung_videos" / row["file"], clip)
        seconds = read_video_info(clip).timing.seconds
        sounds = speech[row["label"]][number % VOICES]
        samples = np.resize(sounds, round((seconds[-1] - seconds[0]) * RATE_HZ))
        with wave.open(str(clip.with_suffix(".wav")), "wb") as recording:
            recording.setparams((1, 2, RATE_HZ, len(samples), "NONE", ""))
            recording.writeframes(samples.tobytes())
        lines.append(f"{row['file']},{row['label']},{row['source_id']}")
    (archive / "labels.csv").write_text("\n".join(lines) + "\n")
    (folder / "classes.txt").write_text("".join(f"{label}: {', '.join(terms)}\n" for label, terms in TERMS.items()))


def run_commands(commands: Sequence[str], folder: Path) -> Iterator[str]:
    """Run commands in a shell in `folder`; yield each with its output, without progress and durations."""
    python = shlex.quote(sys.executable)
    for command in commands:
        variables = {**os.environ, "PYTHONPATH": os.fspath(ROOT)}
        typed = command.replace("usvs ", f"{python} -m usvs ", 1)
        done = subprocess.run(
            ["bash", "-c", typed],
            cwd=folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines = [DURATION.sub("", line) for line in done.stdout.splitlines() if not PROGRESS.search(line)]
        yield "\n".join([f"$ {command}", *lines, ""])
        if done.returncode:
            raise SystemExit(f"{done.stdout[-3000:]}\n'{command}': exit code {done.returncode}")


def _speak(terms: Sequence[str]) -> list[np.ndarray]:
    """Return what each voice says of a label, int16 at `RATE_HZ`."""
    pause = np.zeros(round(PAUSE_SECONDS * RATE_HZ))
    spoken = synthesize_terms(terms, draw_voices(VOICES), RATE_HZ, ("{a}",))
    joined = (np.concatenate([part for sound in sounds for part in (sound, pause)]) for sounds in spoken)
    return [(30_000 * sound / np.abs(sound).max()).astype("<i2") for sound in joined]


def main() -> None:
    """Make the archive, run the commands and write their output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with lung_videos and lung_videos.csv")
    parser.add_argument("--out", type=Path, help="text file for commands and outputs")
    options = parser.parse_args()
    made = describe_environment(torch.device("cpu"))
    texts = [
        f"python -m tests.examples.own_archive\nrevision {made['git_revision']}, {made['device']},"
        f" {made['threads']} threads, torch {made['packages']['torch']}\n"
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_archive(options.data, Path(folder))
        for text in run_commands(commands_of_the_page(), Path(folder)):
            print(text, flush=True)
            texts.append(text)
    if options.out is not None:
        options.out.write_text("\n".join(texts), encoding="utf-8")


if __name__ == "__main__":
    main()
