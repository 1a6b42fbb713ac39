"""A narrated archive on disk: the pictures, the speech and the ground truth agree, and `usvs index` takes it."""

import csv
import hashlib
import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from usvs.cli import main
from usvs.errors import ConfigError, DataError, MissingDependencyError
from usvs.media.audio import read_audio
from usvs.media.video import iter_gray_frames
from usvs.narration import TableColumns, narrate_videos, read_lexicon
from usvs.narration.new_archive import ground_truth_folder
from usvs.narration.settings import NarrateSettings

SETTINGS = NarrateSettings(clip_seconds=2.0, frame_pixels=64, voices=2, silent_fraction=0.0)
LEVEL_OF = {"dark": 60, "light": 120, "bright": 180}  # gray level of each class's videos
WORDS = """
[terms]
dark = ["femur", "thigh"]
light = ["kidney"]
bright = ["stomach", "abdomen"]
"""


@pytest.fixture
def sources(tmp_path, make_video):
    """A folder of silent videos of two patients, a table and a lexicon."""
    rows = []
    for patient in ("ann", "bob"):
        for number, (name, level) in enumerate(LEVEL_OF.items()):
            pictures = [np.full((48, 64), level + n % 5) for n in range(12)]
            make_video(f"{patient}_{number}.mp4", pictures=pictures, rate=12)
            rows.append(f"{patient}_{number}.mp4,{name},{patient}\n")
    (tmp_path / "labels.csv").write_text("file,label,patient\n" + "".join(rows))
    (tmp_path / "words.toml").write_text(WORDS)
    return tmp_path


def make(sources: Path, out: str = "out", **arguments):
    given = {"labels": sources / "labels.csv", "lexicon": sources / "words.toml", "settings": SETTINGS, "workers": 1}
    return narrate_videos(sources / "archive", sources / out, **{**given, **arguments})


def read_rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.slow
def test_pictures_speech_and_ground_truth_agree(sources):
    summary = make(sources, scan_seconds=14.0, on_topic_fraction=0.6)
    out, truth = sources / "out", ground_truth_folder(sources / "out")
    assert sorted(str(file.relative_to(out)) for file in out.rglob("*.*")) == ["ann/scan_1.mp4", "bob/scan_1.mp4"]
    assert (summary.scans, summary.patients, summary.video_seconds) == (2, 2, 28.0)
    assert summary.videos_of_class == {"dark": 2, "light": 2, "bright": 2}
    arrays = np.load(truth / "ann" / "scan_1.npz")
    names = arrays["names"].tolist()
    frames = [gray for _, gray in iter_gray_frames(out / "ann" / "scan_1.mp4")]
    assert len(frames) == 140 == len(arrays["shown"]) and frames[0].shape == (48, 64)
    for gray, shown in zip(frames, arrays["shown"], strict=True):
        assert abs(np.median(gray) - LEVEL_OF[names[shown]] - 2) < 6
    for row in read_rows(truth / "ann" / "scan_1.intervals.csv"):
        inside = slice(round(float(row["start_seconds"]) * 10), round(float(row["end_seconds"]) * 10))
        assert {names[index] for index in arrays["shown"][inside]} == {row["label"]}
        assert row["file"].startswith("ann_") and row["patient"] == "ann"
    sound = read_audio(out / "ann" / "scan_1.mp4", None, 24_000)[: 240 * len(arrays["speech"])]
    power = (sound.reshape(-1, 240).astype(np.float64) ** 2).mean(axis=1)
    assert np.median(power[arrays["speech"]]) > 20 * np.median(power[~arrays["speech"]])
    remarks = read_rows(truth / "ann" / "scan_1.remarks.csv") + read_rows(truth / "bob" / "scan_1.remarks.csv")
    assert summary.remarks == len(remarks) and summary.on_topic == sum(row["on_topic"] == "yes" for row in remarks)
    for row in remarks:
        terms = {
            term for name, own in read_lexicon(sources / "words.toml").topics for term in own if name == row["topic"]
        }
        assert not terms or any(term in row["text"] for term in terms)
        assert row["topic"] == row["shown"] or row["on_topic"] == "no"


@pytest.mark.slow
@pytest.mark.parametrize(("fraction", "low", "high"), [(1.0, 0.7, 1.0), (0.0, 0.0, 0.0)])
def test_remarks_are_about_what_is_shown_as_often_as_stated(sources, fraction, low, high):
    table = sources / "labels.csv"
    table.write_text("".join(line for line in table.read_text().splitlines(keepends=True) if "bob" not in line))
    summary = make(sources, scan_seconds=30.0, clip_seconds=5.0, on_topic_fraction=fraction, delay_seconds=(-0.1, 0.1))
    assert summary.remarks > 8 and low <= summary.on_topic / summary.remarks <= high


def test_streams_and_sources_are_as_a_recorder_writes_them(sources):
    make(sources, part="train", test_fraction=0.5, write_labels=True)
    (folder,) = (sources / "out").iterdir()
    with av.open(str(folder / "scan_1.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name, audio.rate) == ("h264", "aac", 48_000)
    labels = read_rows(folder / "scan_1.labels.csv")
    assert list(labels[0]) == ["start_seconds", "end_seconds", "label"] and len(labels) == 3
    truth = ground_truth_folder(sources / "out")
    scans = {row["file"]: row["scans"] for row in read_rows(truth / "sources.csv")}
    assert len(scans) == 6 and {bool(used) for file, used in scans.items() if file.startswith(folder.name)} == {True}
    assert {used for file, used in scans.items() if not file.startswith(folder.name)} == {""}
    made_from = json.loads((truth / "archive.json").read_text(encoding="utf-8"))
    assert made_from["part"] == "train" and len(made_from["voices"]) == 2


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_in_any_number_of_processes(sources):
    hashes = []
    for out, seed, workers in (("one", 3, 1), ("two", 3, 2), ("other", 4, 1)):
        make(sources, out, seed=seed, workers=workers, clip_seconds=1.0)
        files = sorted(file for folder in sources.glob(f"{out}*") for file in folder.rglob("*.mp4"))
        hashes.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert hashes[0] == hashes[1] and not set(hashes[0]) & set(hashes[2])


def test_index_takes_the_archive_and_its_patients(sources, caplog):
    arguments = ["--labels", sources / "labels.csv", "--lexicon", sources / "words.toml", sources / "out"]
    options = ["--scans", 2, "--scan-seconds", 6, "--clip-seconds", 2, "--voices", 1, "--workers", 1]
    main([str(part) for part in ("narrate", sources / "archive", *arguments, *options)])
    assert "2 scans of 2 patients" in caplog.text
    main(["index", str(sources / "out"), str(sources / "store"), "--workers", "1"])
    assert "2 of 2 scans usable" in caplog.text and "2 by the top-level folder" in caplog.text


def test_a_failure_leaves_nothing_behind(sources):
    damaged = sources / "archive" / "bob_1.mp4"
    content = bytearray(damaged.read_bytes())
    start = content.index(b"mdat") + 4
    content[start:-600] = bytes(len(content) - 600 - start)  # the header can be read, no frame can
    damaged.write_bytes(content)
    with pytest.raises(DataError, match=r"video 'bob_1.mp4': .*remove its row to leave it out"):
        make(sources)
    assert sorted(path.name for path in sources.iterdir()) == ["archive", "labels.csv", "words.toml"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seed": -1}, ConfigError, "expected seed of at least 0, got -1"),
        ({"workers": 0}, ConfigError, "expected workers of at least 1, got 0"),
        ({"on_topic_fraction": 1.5}, ConfigError, "on_topic_fraction"),
        ({"delay_seconds": (1.0, 0.0)}, ConfigError, "delay_seconds: expected a lower and an upper bound"),
        ({"columns": TableColumns("organ")}, DataError, "column 'organ' is missing"),
        ({"out": "archive"}, DataError, "archive' is not empty"),
        ({"out": "labels.csv"}, DataError, "labels.csv' is a file"),
    ],
)
def test_wrong_arguments_are_named(sources, arguments, error, message):
    with pytest.raises(error, match=message):
        make(sources, **arguments)


def test_a_text_without_a_sound_is_named(sources):
    (sources / "words.toml").write_text(WORDS.replace("thigh", "..."))
    with pytest.raises(ConfigError, match=r"expected texts that can be spoken, got '\.\.\.'"):
        make(sources)


def test_without_the_voices_the_message_says_what_to_install(sources, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'usvs\[phantom\]'"):
        make(sources)
