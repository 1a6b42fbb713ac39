"""Prepared scans: what is written is read again at any time of the scan, and nothing outside it."""

import os
import pickle
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from usvs.errors import DataError
from usvs.store.prepared_manifest import PreparedManifest
from usvs.store.prepared_scan import FrameMemory, PreparedScan
from usvs.store.settings import PrepareSettings


@pytest.fixture
def pictures() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = rng.random((30, 5, 5)).repeat(8, 1).repeat(8, 2)
    return (255 * smooth).astype(np.uint8)


@pytest.mark.parametrize(("codec", "worst"), [("raw", 0), ("jpeg", 12)])
def test_frames_come_back(make_prepared, tmp_path: Path, pictures: np.ndarray, codec: str, worst: int):
    settings = PrepareSettings(frame_pixels=40, codec=codec)
    scan = PreparedScan(make_prepared(tmp_path / "abc", pictures, settings=settings))
    numbers = np.array([29, 0, 7, 7])
    frames = scan.frames(numbers)
    assert frames.dtype == np.uint8 and frames.shape == (4, 40, 40)
    assert np.abs(frames.astype(int) - pictures[numbers]).max() <= worst
    assert np.abs(frames.astype(int) - pictures[numbers]).mean() <= 1
    again = pickle.loads(pickle.dumps(scan))
    np.testing.assert_array_equal(again.frames(numbers), frames)
    for number in (-1, 30):
        with pytest.raises(DataError, match=f"expected a frame index below 30, got {number}"):
            scan.frames(np.array([number]))


def test_a_frame_that_fits_into_memory_is_decoded_once(make_prepared, tmp_path: Path, pictures, monkeypatch):
    decoded, decode = [], PreparedScan._decode
    monkeypatch.setattr(PreparedScan, "_decode", lambda scan, *one: [decoded.append(one[0]), decode(scan, *one)])
    folder = make_prepared(tmp_path / "abc", pictures, settings=PrepareSettings(frame_pixels=40))
    plain, scan = PreparedScan(folder), PreparedScan(folder, FrameMemory(2 * 40 * 40 + 1))
    expected = plain.frames(np.array([3, 4, 5]))
    decoded.clear()
    for frames in (scan.frames(np.array([3, 4, 5])), scan.frames(np.array([3, 4, 5]))):
        np.testing.assert_array_equal(frames, expected)
        frames[:] = 0  # the caller's own
    assert decoded == [3, 4, 5, 5]


def test_nearest_frame_of_a_moment(make_prepared, tmp_path: Path, pictures: np.ndarray):
    times = [0.0, 0.1, 0.4, 0.5]
    frames = zip(times, pictures, strict=False)
    scan = PreparedScan(make_prepared(tmp_path / "abc", pictures, frames=frames))
    found = scan.nearest_frames(np.array([-1.0, 0.0, 0.05, 0.26, 0.24, 0.46, 9.0]))
    np.testing.assert_array_equal(found, [0, 0, 0, 2, 1, 3, 3])
    assert scan.duration_seconds == pytest.approx(0.6)
    one = PreparedScan(make_prepared(tmp_path / "one", pictures[:1]))
    np.testing.assert_array_equal(one.nearest_frames(np.array([0.0, 4.0])), [0, 0])


def test_speech_is_read_by_time_and_never_beyond_the_end(make_prepared, tmp_path: Path, pictures: np.ndarray):
    speech = np.arange(24_000, dtype=np.int16)
    scan = PreparedScan(make_prepared(tmp_path / "abc", pictures, speech=speech))  # 20 frames a second
    np.testing.assert_array_equal(scan.speech(0.5, 100), speech[12_000:12_100])
    for start in (0.9, 0.901, 0.949):  # a clip may end within a frame of the scan's end
        np.testing.assert_array_equal(scan.speech(start, 2400), speech[21_600:])
    for start in (-0.1, 0.951):
        with pytest.raises(DataError, match=r"expected speech between 0 s and 1\.000 s, got"):
            scan.speech(start, 2400)
    silent = PreparedScan(make_prepared(tmp_path / "silent", pictures))
    assert not silent.has_sound
    with pytest.raises(DataError, match="has no sound"):
        silent.speech(0.0, 1)


def test_gaze_and_planes_may_be_missing(make_prepared, tmp_path: Path, pictures: np.ndarray):
    bare = PreparedScan(make_prepared(tmp_path / "bare", pictures))
    assert bare.planes is None and bare.gaze.shape == (30, 2) and np.isnan(bare.gaze).all()
    tracks = {
        "gaze": np.full((30, 2), 0.25, np.float32),
        "planes": lambda seconds: np.arange(len(seconds), dtype=np.int16),
    }
    full = PreparedScan(make_prepared(tmp_path / "full", pictures, **tracks))
    np.testing.assert_array_equal(full.planes, np.arange(30))
    assert (full.gaze == 0.25).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"planes": np.zeros(29, np.int16)}, "one value for each of 30 frames, got 29"),
        ({"settings": PrepareSettings(frame_pixels=41)}, "expected frames of 41 x 41"),
        ({"frames": [(0.0, np.zeros((40, 40), np.uint8))] * 2}, "expected increasing frame times, frame 1"),
        ({"frames": []}, "no frame could be decoded"),
    ],
)
def test_what_does_not_fit_leaves_nothing_behind(make_prepared, tmp_path: Path, pictures, settings, words: str):
    with pytest.raises(DataError, match=words):
        make_prepared(tmp_path / "prepared" / "abc", pictures, **settings)
    assert list((tmp_path / "prepared").iterdir()) == []


def test_a_writer_that_is_interrupted_leaves_the_old_scan(make_prepared, tmp_path: Path, pictures: np.ndarray):
    folder = make_prepared(tmp_path / "abc", pictures)

    def broken():
        yield 0.0, pictures[1]
        assert not (folder.parent / "def").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_prepared(folder, pictures, frames=broken())
    assert len(PreparedScan(folder).frame_seconds) == 30
    make_prepared(folder, pictures[:5])  # a complete one replaces it
    assert len(PreparedScan(folder).frame_seconds) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["abc"]


def test_every_file_is_on_disk_before_the_scan_has_its_name(make_prepared, tmp_path: Path, pictures, monkeypatch):
    synced: set[str] = set()
    monkeypatch.setattr(os, "fsync", lambda file: synced.add(str(Path(f"/proc/self/fd/{file}").readlink())))
    rename, before = Path.rename, []

    def renamed(path: Path, target: Path) -> Path:
        before.append(({str(file) for file in (path, *path.iterdir())}, synced.copy()))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", renamed)
    make_prepared(tmp_path / "abc", pictures, speech=np.zeros(24_000, np.int16))
    ((files, on_disk),) = before
    assert len(files) == 1 + 8 and files == on_disk
    assert str(tmp_path) in synced


def test_a_damaged_scan_is_named_by_its_key(make_prepared, tmp_path: Path, pictures: np.ndarray):
    folder = make_prepared(tmp_path / "abc", pictures)
    blob = folder / "frames.bin"
    content = blob.read_bytes()
    blob.write_bytes(content[:-1])
    with pytest.raises(DataError, match="abc: expected 30 frames in files of matching sizes"):
        PreparedScan(folder)
    blob.write_bytes(bytes(len(content)))
    with pytest.raises(DataError, match="abc: prepared frame 3 is damaged"):
        PreparedScan(folder).frames(np.array([3]))
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match=r"manifest.json is damaged; run 'usvs prepare'"):
        PreparedScan(folder)
    (folder / "manifest.json").write_text('{"version": 1}')
    with pytest.raises(DataError, match=r"manifest.json: expected version 2, got 1; run 'usvs prepare'"):
        PreparedScan(folder)
    with pytest.raises(DataError, match="not a prepared scan"):
        PreparedScan(tmp_path)


def handles() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_an_open_scan_gives_its_file_handles_back(make_prepared, tmp_path: Path, pictures: np.ndarray):
    folder = make_prepared(tmp_path / "abc", pictures, speech=np.zeros(100, np.int16))
    before = handles()
    scans = [PreparedScan(folder) for _ in range(10)]
    assert handles() > before
    del scans
    assert handles() == before


def test_the_manifest_says_what_the_files_are(make_prepared, tmp_path: Path, pictures: np.ndarray):
    folder = make_prepared(tmp_path / "abc", pictures, speech=np.zeros(100, np.int16))
    manifest = PreparedManifest.load(folder)
    assert set(manifest.sha256) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    for name, digest in manifest.sha256.items():
        assert sha256((folder / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_frames_as_they_lie_on_disk(make_prepared, tmp_path: Path, pictures: np.ndarray, codec: str):
    folder = make_prepared(tmp_path / "abc", pictures, settings=PrepareSettings(frame_pixels=40, codec=codec))
    scan = PreparedScan(folder)
    encoded = scan.read_encoded(np.array([29, 0]))
    if codec == "raw":
        np.testing.assert_array_equal(encoded, pictures[[29, 0]])
    blob = folder / "frames.bin"
    assert blob.read_bytes().startswith(encoded[1].tobytes()) and blob.read_bytes().endswith(encoded[0].tobytes())
    content = bytearray(blob.read_bytes())
    content[len(content) - 30] ^= 1  # one bit, which a decoder may take for a picture
    blob.write_bytes(content)
    scan.read_encoded(np.arange(29))
    with pytest.raises(DataError, match="abc: prepared frame 29 is damaged"):
        scan.read_encoded(np.array([29]))
    with pytest.raises(DataError, match="expected a frame index below 30, got 30"):
        scan.read_encoded(np.array([30]))


def test_many_scans_do_not_use_up_file_handles(make_prepared, tmp_path: Path, pictures: np.ndarray, monkeypatch):
    from collections import OrderedDict
    from threading import Lock

    from usvs.store import prepared
    from usvs.store.prepared import PreparedStore

    monkeypatch.setattr(prepared, "MAX_OPEN_SCANS", 8)
    monkeypatch.setattr(prepared, "stale_reason", lambda manifest, row: None)
    store = PreparedStore.__new__(PreparedStore)
    store.scans = tuple(f"scan{number}" for number in range(40))
    store._settings = None
    store._states = pa.table({"scan_key": store.scans})
    store._folder, store._open, store._lock, store._memory = tmp_path, OrderedDict(), Lock(), None
    for key in store.scans:
        make_prepared(tmp_path / key, pictures[:2], speech=np.zeros(100, np.int16))
    before = handles()
    for _ in range(2):
        for number in range(40):
            store.scan(number).frames(np.array([0]))
            store.scan(number).speech(0.0, 10)
            assert handles() <= before + 8
    store._open.clear()
    assert handles() == before
