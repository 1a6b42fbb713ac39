"""A store that is stale or damaged: training refuses it, `usvs audit` finds it, `usvs prepare` repairs it."""

import os
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.pretraining_stores import write_store
from usvs.cli import main
from usvs.data.pair_dataset import PairDataset
from usvs.errors import ConfigError, DataError
from usvs.store.audit import audit_store
from usvs.store.catalogue import Catalogue
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.store.prepared_manifest import PreparedManifest
from usvs.store.settings import ClipSettings, PrepareSettings
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.tasks.pretraining.task import PretrainingTask

CLIPS = ClipSettings(clip_seconds=0.5, speech_seconds=0.2, order_spacing_seconds=0.1, order_jitter_seconds=0.01)
SETTINGS = PrepareSettings(frame_pixels=36)
SOUND = 0.3 * np.sin(np.arange(72_000) * 0.2)
CHANGED = r"1 of 2 scans are not prepared or not up to date \(scan \w+: the {} has changed since 'usvs prepare'\)"


@pytest.fixture
def archive(make_video, tmp_path: Path) -> Path:
    make_video("p1/a.mp4", count=30, sound=SOUND)
    make_video("p2/b.mp4", count=28, sound=SOUND)
    gaze = "".join(f"{11_000 * number},0.5,0.5,1\n" for number in range(120))
    (tmp_path / "archive/p1/a.gaze.csv").write_text(f"timestamp_us,x,y,valid\n{gaze}")
    (tmp_path / "archive/p1/a.planes.csv").write_text("start_seconds,end_seconds,plane\n0.5,1.0,femur\n")
    return tmp_path / "archive"


@pytest.fixture
def store(archive: Path, tmp_path: Path) -> Path:
    index(archive, tmp_path / "store")
    prepare_store(tmp_path / "store", profile=SETTINGS, workers=1)
    return tmp_path / "store"


def index(archive: Path, store: Path, **options) -> None:
    index_archive(archive, store, clips=CLIPS, workers=1, **options)


def key_of(store: Path, path: str) -> str:
    return {row["path"]: row["scan_key"] for row in Catalogue.load(store).scans.to_pylist()}[path]


@pytest.mark.parametrize("changed", ["video", "sound file", "gaze file", "planes file"])
def test_new_clips_never_meet_old_pixels(make_video, archive: Path, store: Path, changed: str):
    if changed == "video":
        make_video("p1/a.mp4", count=40, sound=SOUND)
    elif changed == "sound file":
        make_video("sound.mkv", count=30, sound=SOUND[::-1], sound_codec="pcm_s16le")
        with av.open(str(archive / "sound.mkv")) as source, av.open(str(archive / "p1/a.wav"), "w") as target:
            stream = target.add_stream("pcm_s16le", rate=48_000)
            stream.layout = "mono"
            for frame in source.decode(audio=0):
                frame.pts = None
                target.mux(stream.encode(frame))
        (archive / "sound.mkv").unlink()
    else:
        path = archive / f"p1/a.{changed.split()[0]}.csv"
        path.write_text(path.read_text().replace("0.5", "0.6"))
        os.utime(path, ns=(1, 1))
    index(archive, store)
    with pytest.raises(DataError, match=CHANGED.format(changed) + "; run: usvs prepare "):
        PairDataset(store, split="all")
    assert any(f"the {changed} has changed" in str(finding) for finding in audit_store(store, workers=1).findings)
    assert prepare_store(store, profile=SETTINGS, workers=1).prepared == 1
    assert len(PairDataset(store, split="all"))


def test_a_changed_patient_alignment_or_setting_is_refused(archive: Path, store: Path):
    (archive / "manifest.csv").write_text("scan,patient,sound_offset_seconds\np1/a.mp4,p1,0.1\np2/b.mp4,p2,0\n")
    index(archive, store)
    with pytest.raises(DataError, match=r"its (alignment of sound and gaze|patient) differs from the catalogue's"):
        PreparedStore(store)
    prepare_store(store, profile=SETTINGS, workers=1)
    PreparedStore(store)
    (archive / "p2/b.mp4").rename(archive / "p2/other.mp4")
    with pytest.raises(DataError, match=r"1 of 2 scans are not prepared .* it has no manifest.json"):
        index(archive, store)
        PreparedStore(store)


def test_scans_of_different_settings_are_not_mixed(store: Path):
    folder = store / "prepared" / key_of(store, "p1/a.mp4")
    manifest, made = folder / "manifest.json", PreparedManifest.load(folder)
    settings = made.settings.model_copy(update={"jpeg_quality": 80})
    manifest.write_text(made.model_copy(update={"settings": settings}).seal().model_dump_json())
    with pytest.raises(DataError, match="prepared with other settings than the first scan"):
        PreparedStore(store)


@pytest.mark.slow
def test_every_damaged_file_is_repaired(store: Path):
    folder = store / "prepared" / key_of(store, "p1/a.mp4")
    undamaged = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(undamaged) == 9
    for name, content in undamaged.items():
        flipped = bytearray(content)
        flipped[len(flipped) * 2 // 3] ^= 4
        for damaged in (bytes(flipped), content[:-1], None):
            (folder / name).unlink()
            if damaged is not None:
                (folder / name).write_bytes(damaged)
            summary = prepare_store(store, profile=SETTINGS, workers=1)
            assert (summary.prepared, summary.unchanged) == (1, 1), name
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == undamaged
            assert name == "manifest.json" or f"repaired: p1/a.mp4: {name} was damaged" in str(summary)


def test_a_quick_preparation_does_not_hash_frames_and_speech(store: Path):
    folder = store / "prepared" / key_of(store, "p1/a.mp4")
    content = bytearray((folder / "frames.bin").read_bytes())
    content[100] ^= 1
    (folder / "frames.bin").write_bytes(content)
    assert prepare_store(store, profile=SETTINGS, workers=1, verify=False).unchanged == 2
    assert prepare_store(store, profile=SETTINGS, workers=1).prepared == 1


def test_a_damaged_catalogue_is_refused_and_indexed_again(archive: Path, store: Path):
    before = [part.to_pydict() for part in (Catalogue.load(store).scans, Catalogue.load(store).clips)]
    (clips,) = (store / "catalogue").glob("clips.*")
    for name in ("speech_fraction.npy", "start_seconds.npy", "scan.npy", "sha256.json", "../scans.parquet"):
        (clips,) = (store / "catalogue").glob("clips.*")
        content = bytearray((clips / name).read_bytes())
        content[-3] ^= 1
        (clips / name).write_bytes(content)
        with pytest.raises(DataError, match="run 'usvs index' again"):
            PreparedStore(store)
        index(archive, store)
        assert [part.to_pydict() for part in (Catalogue.load(store).scans, Catalogue.load(store).clips)] == before


def test_clips_of_another_length_are_refused(tmp_path: Path):
    store = write_store(tmp_path / "store")
    longer = ClipSettings(clip_seconds=4.0)
    words = r"clips.clip_seconds: expected 2.0, .*, got 4.0; use --set clips.clip_seconds=2.0, .* run: usvs index "
    with pytest.raises(ConfigError, match=words):
        PairDataset(store, clips=longer)
    with pytest.raises(ConfigError, match=words):
        PretrainingTask(PretrainSettings(clips=longer)).dataset(PreparedStore(store))


def test_a_dataset_takes_the_clip_length_from_the_store(store: Path):
    assert PairDataset(store, split="all", frame_pixels=32).settings.clips == CLIPS


def test_a_moved_archive_is_found_again(archive: Path, store: Path, tmp_path: Path):
    keys = Catalogue.load(store).scans["scan_key"].to_pylist()
    moved = archive.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="does not exist: restore it or, if it was moved, run: usvs index NEW_PLACE "):
        prepare_store(store, profile=SETTINGS, workers=1)
    (moved / "p2/b.mp4").rename(tmp_path / "b.mp4")
    with pytest.raises(DataError, match=r"1 of 2 videos of the store are there .*run: usvs index .* --moved"):
        index(moved, store)
    (tmp_path / "b.mp4").rename(moved / "p2/b.mp4")
    index(moved, store)
    assert Catalogue.load(store).scans["scan_key"].to_pylist() == keys
    assert prepare_store(store, profile=SETTINGS, workers=1).unchanged == 2
    again = moved.rename(tmp_path / "third")
    (again / "p2/b.mp4").unlink()
    main(["index", str(again), str(store), "--moved", "--workers", "1", "--set", "clips.clip_seconds=2"])
    assert Catalogue.load(store).scans["scan_key"].to_pylist() == keys[:1]


def test_missing_scans_of_the_manifest_may_change_places(archive: Path, store: Path):
    head = "scan,patient\np1/a.mp4,1\np2/b.mp4,2\n"
    for gone in ("x.mp4,3\ny.mp4,4\nz.mp4,5\n", "y.mp4,4\nx.mp4,3\nz.mp4,5\n", "z.mp4,5\nx.mp4,3\n"):
        (archive / "manifest.csv").write_text(head + gone)
        index(archive, store)
        paths = Catalogue.load(store).scans["path"].to_pylist()
        assert paths[2:] == [line.split(",")[0] for line in gone.split()]


def test_one_unreadable_folder_is_skipped(archive: Path, tmp_path: Path, monkeypatch):
    real = os.scandir

    def refusing(path):
        if str(path).endswith("/p2"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    summary = index_archive(archive, tmp_path / "store", clips=CLIPS, workers=1)
    assert summary.usable == 1
    assert "skipped folder: p2: not readable: Permission denied" in str(summary)
