"""The archive on disk: encoded media, readable csv, ground truth in its own folder, the same for the same seed."""

import csv
import hashlib
from pathlib import Path

import av
import numpy as np
import pytest

from usvs.archive.gaze import read_gaze
from usvs.archive.labels import read_plane_labels
from usvs.config import check_settings
from usvs.errors import ConfigError, DataError, ResourceError
from usvs.phantom import ground_truth_folder, make_phantom, read_ground_truth
from usvs.phantom.settings import PhantomSettings

SETTINGS = PhantomSettings(scan_seconds=6.0, frame_rate_hz=25, frame_width=240, frame_height=200)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "archive"
    summary = make_phantom(out, patients=2, seed=11, settings=SETTINGS, workers=1)
    assert (summary.patients, summary.scans, summary.frames, summary.video_seconds) == (2, 2, 300, 12.0)
    assert summary.bytes == sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return out


def test_the_streams_are_h264_and_aac_of_the_same_length(archive):
    for file in sorted(archive.rglob("*.mp4")):
        with av.open(str(file)) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, video.pix_fmt, video.average_rate) == ("h264", "yuv420p", 25)
            assert video.codec_context.color_range == 1  # limited
            assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 48_000, 1)
            assert float(video.duration * video.time_base) == pytest.approx(6.0, abs=1e-3)
            assert float(audio.duration * audio.time_base) == pytest.approx(6.0, abs=0.03)
            frames = [frame.to_ndarray()[: frame.height] for frame in container.decode(video=0)]
        assert len(frames) == 150
        assert np.percentile(frames[0], 10) in (15, 16, 17)  # black, in limited range
        assert video.width % 2 == 0 and video.height % 2 == 0


def test_only_what_a_recorder_would_write_lies_in_the_archive(archive):
    names = sorted(file.relative_to(archive).as_posix() for file in archive.rglob("*") if file.is_file())
    endings = (".gaze.csv", ".mp4", ".planes.csv")
    assert names == [f"patient_{patient:03d}/scan_1{end}" for patient in (1, 2) for end in endings]
    assert ground_truth_folder(archive) == archive.with_name("archive.ground_truth")
    assert sorted(file.name for file in archive.parent.iterdir()) == ["archive", "archive.ground_truth"]


def test_labels_read_back_equal_the_ground_truth(archive):
    ground_truth = read_ground_truth(ground_truth_folder(archive) / "patient_001/scan_1.npz")
    labels = read_plane_labels(archive / "patient_001/scan_1.planes.csv")
    np.testing.assert_array_equal(labels.at(ground_truth.frame_seconds + 1e-3), ground_truth.plane)
    assert labels.end_seconds[-1] == 6.0 and np.all(labels.start_seconds[1:] == labels.end_seconds[:-1])


def test_gaze_reads_back_and_follows_the_landmark(archive):
    file = archive / "patient_001/scan_1.gaze.csv"
    ground_truth = read_ground_truth(ground_truth_folder(archive) / "patient_001/scan_1.npz")
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    valid = np.array([row["valid"] == "1" for row in rows])
    assert len(rows) == 540 and 0.5 < valid.mean() < 1.0
    assert all(np.isnan(float(row["x"])) for row, seen in zip(rows, valid, strict=True) if not seen)
    samples = read_gaze(file)
    assert len(samples.x) == valid.sum() and samples.x.min() >= 0 and samples.x.max() <= 1
    away = np.linalg.norm(ground_truth.gaze - ground_truth.landmark, axis=1)
    assert np.nanmedian(away) < 0.08  # half of the fixations and more are on the main landmark
    assert np.isnan(ground_truth.gaze).any(axis=1).mean() < 0.5


def test_the_crop_is_inside_the_sector_and_nearly_the_largest(archive):
    from usvs.phantom.geometry import SectorGeometry

    ground_truth = read_ground_truth(ground_truth_folder(archive) / "patient_002/scan_1.npz")
    sector = SectorGeometry(**ground_truth.sector)
    inside = sector.pixel_beams()[0] >= 0
    left, top, right, bottom = ground_truth.crop
    assert inside[top:bottom, left:right].all()
    assert not inside[top:bottom, left - 6 : right + 6].all() or not inside[top - 6 : bottom + 6, left:right].all()


@pytest.mark.slow
def test_other_processes_and_more_patients_change_nothing(archive, tmp_path):
    other = tmp_path / "other"
    make_phantom(other, patients=3, seed=11, settings=SETTINGS, workers=2)
    for file in sorted(archive.rglob("*.*")):
        again = other / file.relative_to(archive)
        assert _hash(file) == _hash(again), file.name
    first, third = (_hash(other / f"patient_00{patient}/scan_1.mp4") for patient in (1, 3))
    assert first != third


@pytest.mark.parametrize("what", ["archive", "ground_truth", "file"])
def test_what_is_there_is_not_written_over(tmp_path, what):
    out = tmp_path / "out"
    taken = {"archive": out / "mine.txt", "ground_truth": ground_truth_folder(out) / "mine.txt", "file": out}[what]
    taken.parent.mkdir(exist_ok=True)
    taken.write_text("mine")
    with pytest.raises(DataError, match=r"not empty|is a file"):
        make_phantom(out, patients=1, seed=0, settings=SETTINGS)
    assert taken.read_text() == "mine"


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("usvs.phantom.make.write_planes", full)
    with pytest.raises(ResourceError, match="No space left"):
        make_phantom(tmp_path / "out", patients=1, seed=0, settings=SETTINGS, workers=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"patients": 0}, {"seed": -1}, {"workers": 0}])
def test_wrong_counts_are_named(tmp_path, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_phantom(tmp_path / "out", **{"patients": 1, "seed": 0, "settings": SETTINGS, **wrong})


def test_bounds_in_the_wrong_order_are_refused():
    with pytest.raises(ConfigError, match="dwell_seconds"):
        check_settings(PhantomSettings, {"dwell_seconds": (5.0, 4.0)})


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
