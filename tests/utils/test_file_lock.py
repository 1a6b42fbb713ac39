"""On a file system without locks, files and folders are written all the same, after one warning."""

import errno
import os
from pathlib import Path

import pytest

from usvs.utils import file_lock
from usvs.utils.atomic_files import replacing_folder, write_durably
from usvs.utils.folder_lock import FolderLock


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP])
def test_a_share_without_locks(
    reason: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def no_lock(descriptor: int, operation: int) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(file_lock.fcntl, "flock", no_lock)
    for content in (b"old", b"new"):
        write_durably(tmp_path / "file", content)
    with replacing_folder(tmp_path / "folder") as partial:
        (partial / "inside").write_text("complete")
    lock = FolderLock(tmp_path)
    lock.release()

    assert (tmp_path / "file").read_bytes() == b"new" and (tmp_path / "folder/inside").read_text() == "complete"
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and f"'{tmp_path}'" in warnings[0] and os.strerror(reason) in warnings[0]


def test_another_failure_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(file_lock.fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output error"):
        FolderLock(tmp_path)
