"""The tutorial's own archive: its commands are the README's, and its outputs are those of the stored run."""

import re
import shlex

import numpy as np
import pytest

from tests.examples.own_archive import (
    ROOT,
    commands_of_the_page,
    run_commands,
    section_of_the_page,
    write_archive,
)
from tests.support.media_files import write_video

STORED = ROOT / "docs" / "results" / "own_archive.txt"


def test_the_commands_are_those_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```\n(usvs index .*?)^```", readme, flags=re.S | re.M)
    expected = [shlex.split(line, comments=True) for line in block.splitlines()]
    found = [shlex.split(line) for line in commands_of_the_page()]
    assert [words[1] for words in found] == [words[1] for words in expected] and len(found) == 10
    options = [[{word for word in words if word.startswith("--")} for words in each] for each in (expected, found)]
    assert all(ours >= theirs for theirs, ours in zip(*options, strict=True))


def test_the_outputs_of_the_page_are_those_of_the_stored_run():
    stored = STORED.read_text(encoding="utf-8").splitlines()
    assert [line[2:] for line in stored if line.startswith("$ ")] == commands_of_the_page()
    quoted = re.findall(r"^```text\n(.*?)^```", section_of_the_page(), flags=re.S | re.M)
    lines = [line for block in quoted for line in block.splitlines()]
    assert len(lines) >= 8 and not [line for line in lines if line not in stored]


@pytest.mark.slow
def test_the_archive_is_made_and_its_commands_are_run_without_progress(tmp_path):
    pytest.importorskip("espeakng_loader")
    (tmp_path / "data" / "lung_videos").mkdir(parents=True)
    rows = ["file,label,probe,source_id"]
    for number, label in enumerate(("covid", "pneumonia", "regular", "viral")):
        pictures = [np.random.default_rng(at).integers(0, 200, (64, 64)) for at in range(50)]
        write_video(tmp_path / "data" / "lung_videos" / f"{label}.mp4", pictures=pictures, rate=10)
        rows.append(f"{label}.mp4,{label},convex,{number}")
    (tmp_path / "data" / "lung_videos.csv").write_text("\n".join(rows) + "\n")
    write_archive(tmp_path / "data", tmp_path)
    assert sorted(path.name for path in (tmp_path / "lung_clips").glob("*.wav")) == [
        "covid.wav",
        "pneumonia.wav",
        "regular.wav",
    ]
    (text,) = run_commands(["usvs index lung_clips/ store --workers 1"], tmp_path)
    lines = text.splitlines()
    assert lines[0] == "$ usvs index lung_clips/ store --workers 1"
    assert lines[1].startswith("index: 3 of 3 scans usable") and " of them with enough speech" in lines[1]
    with pytest.raises(SystemExit, match="exit code 2"):
        list(run_commands(["usvs index nowhere store2"], tmp_path))
