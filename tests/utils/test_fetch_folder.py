"""A copy of a folder in object storage: complete, brought up to date, never half a file, nothing of others touched."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usvs.errors import ConfigError, DataError, MissingDependencyError
from usvs.utils.fetch_folder import PARTIAL, RECORD, fetch_folder

fsspec = pytest.importorskip("fsspec")

FILES = {"a.mp4": b"one", "patient 1/b.mp4": b"two" * 1000, "patient 1/ä/c.csv": b"", "manifest.csv": b"scan\n"}


def upload(url: str, files: dict[str, bytes]) -> Any:
    storage, root = fsspec.core.url_to_fs(url)
    for name, content in files.items():
        storage.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        storage.pipe_file(f"{root}/{name}", content)
    return storage


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != RECORD
    }


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    place = f"memory://{tmp_path.name}/archive" if request.param == "memory" else f"file://{tmp_path}/remote/archive"
    upload(place, FILES)
    return place


def test_only_what_has_changed_is_copied_again(url: str, tmp_path: Path):
    folder = tmp_path / "copy"
    first = fetch_folder(url, folder)
    assert contents(folder) == FILES and (first.files, first.fetched, first.removed) == (4, 4, 0)
    assert folder.stat().st_mode & 0o077 == 0 and (folder / "a.mp4").stat().st_mode & 0o077 == 0
    assert fetch_folder(url, folder).fetched == 0
    own = folder / "own.txt"
    own.write_bytes(b"mine")
    (folder / "manifest.csv").unlink()
    storage = upload(url, {"a.mp4": b"longer than before", "new.mp4": b"n"})
    storage.rm_file(fsspec.core.url_to_fs(url)[1] + "/patient 1/b.mp4")
    again = fetch_folder(url, folder)
    assert (again.files, again.fetched, again.removed) == (4, 3, 1)
    expected = FILES | {"a.mp4": b"longer than before", "new.mp4": b"n", "own.txt": b"mine"}
    del expected["patient 1/b.mp4"]
    assert contents(folder) == expected


def test_an_interrupted_copy_continues(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    storage, _ = fsspec.core.url_to_fs(url)
    real, copied = type(storage).get_file, []

    def get_file(self: Any, source: str, target: str, **more: Any) -> None:
        if len(copied) == 2:
            Path(target).write_bytes(b"ha")
            raise KeyboardInterrupt
        copied.append(source)
        real(self, source, target, **more)

    monkeypatch.setattr(type(storage), "get_file", get_file)
    with pytest.raises(KeyboardInterrupt):
        fetch_folder(url, tmp_path / "copy")
    done = {name: content for name, content in contents(tmp_path / "copy").items() if not name.endswith(PARTIAL)}
    assert len(done) == 2 and done.items() <= FILES.items()
    monkeypatch.setattr(type(storage), "get_file", real)
    assert fetch_folder(url, tmp_path / "copy").fetched == 2
    assert contents(tmp_path / "copy") == FILES


def test_a_file_of_another_length_than_listed_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = f"memory://{tmp_path.name}/cut"
    storage = upload(place, {"a.mp4": b"complete"})
    monkeypatch.setattr(type(storage), "get_file", lambda self, source, target: Path(target).write_bytes(b"comp"))
    with pytest.raises(DataError, match=r"file 'a.mp4': expected 8 bytes, got 4; run it again"):
        fetch_folder(place, tmp_path / "copy")
    assert contents(tmp_path / "copy") == {}


def test_what_cannot_be_fetched_is_named(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="has other files: expected a new folder or an earlier copy"):
        fetch_folder(url, other)
    assert contents(other) == {"notes.txt": b"mine"}
    fetch_folder(url, tmp_path / "copy")
    upload(f"memory://{tmp_path.name}/second", FILES)
    with pytest.raises(DataError, match="is a copy of another place"):
        fetch_folder(f"memory://{tmp_path.name}/second", tmp_path / "copy")
    with pytest.raises(DataError, match="expected a folder with files, got none"):
        fetch_folder(f"memory://{tmp_path.name}/nothing", tmp_path / "new")
    with pytest.raises(ConfigError, match=r"expected a URL such as s3://bucket/archive, got 'some/folder'"):
        fetch_folder("some/folder", tmp_path / "new")
    with pytest.raises(ConfigError, match="expected a protocol of fsspec, got 'nope://bucket/archive'"):
        fetch_folder("nope://bucket/archive", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'usvs\[storage\]'"):
        fetch_folder(url, tmp_path / "new")


def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = f"memory://{tmp_path.name}/evil"
    storage = upload(place, {"a.mp4": b"x"})
    _, root = fsspec.core.url_to_fs(place)
    listed = {f"{root}/../outside.txt": {"size": 1, "type": "file"}}
    monkeypatch.setattr(type(storage), "find", lambda self, path, detail: listed)
    with pytest.raises(DataError, match=r"expected names inside of the folder, got .*outside"):
        fetch_folder(place, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_fetched_store_is_read_like_the_original(tiny_store: Path, tmp_path: Path):
    from usvs.store.prepared import PreparedStore

    fetch_folder(f"file://{tiny_store}", tmp_path / "store")
    one, other = PreparedStore(tiny_store), PreparedStore(tmp_path / "store")
    assert one.scans == other.scans
    assert np.array_equal(one.scan(0).frames(np.arange(3)), other.scan(0).frames(np.arange(3)))
