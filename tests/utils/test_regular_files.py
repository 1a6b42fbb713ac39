"""The one opener: pipes, devices, sockets and folders are refused at once, and large files before they are read."""

import os
import re
import socket
from pathlib import Path

import pytest

from tests.support.processes import ROOT, run_python
from usvs.utils.regular_files import RegularFileError, check_regular, open_regular, read_regular

SIZE_LIMIT_BYTES = 1 << 20


def _make(kind: str, folder: Path) -> Path:
    path = folder / "file"
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    return path


@pytest.mark.parametrize("kind", ["a named pipe", "a device", "a folder", "a socket"])
@pytest.mark.parametrize("read", [open_regular, check_regular, read_regular])
def test_anything_but_a_regular_file_is_refused_without_blocking(tmp_path: Path, kind: str, read):
    with pytest.raises(RegularFileError, match=f"expected a regular file, got {kind}"):
        read(_make(kind, tmp_path))


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path):
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(RegularFileError, match="expected at most 1 MiB, got 1,048,576 MiB"):
        open_regular(path, SIZE_LIMIT_BYTES)
    os.truncate(path, SIZE_LIMIT_BYTES)
    assert len(read_regular(path, SIZE_LIMIT_BYTES)) == SIZE_LIMIT_BYTES
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


def test_a_small_file_needs_little_memory_whatever_the_limit(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    script = (
        "import resource, sys; from pathlib import Path; from usvs.utils.regular_files import read_regular\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28),) * 2)\n"
        "print(len(read_regular(Path(sys.argv[1]), 1 << 33)))"
    )
    assert run_python("-c", script, str(tmp_path / "a")).strip() == "3000000"
    assert read_regular(Path("/proc/self/status"), 1 << 33).startswith(b"Name:")


def test_no_reader_opens_a_file_of_others_by_itself():
    """Every other `open` for reading is of a file that this package has just written."""
    own = {"utils/atomic_files.py", "utils/regular_files.py", "utils/private_files.py", "training/environment.py"}
    own |= {"training/checkpoint.py", "report/page.py", "utils/preview.py"}  # _sync_file; own stylesheet; /proc
    found = []
    for path in sorted((ROOT / "usvs").rglob("*.py")):
        for line in path.read_text().splitlines():
            reads = re.search(r"\.read_text\(|\.read_bytes\(|\.open\(\"rb?\"|\.open\(newline=|\.open\(encoding=", line)
            if reads and path.relative_to(ROOT / "usvs").as_posix() not in own:
                found.append(f"{path.name}: {line.strip()}")
    assert found == []


READERS = {  # a function, or the lines that define `read`; and the ending that it expects
    "usvs.archive.gaze.read_gaze": ".mp4",
    "usvs.archive.labels.read_plane_labels": ".mp4",
    "usvs.archive.manifest.read_manifest": ".mp4",
    "usvs.config.load_settings": ".toml",
    "usvs.media.audio.read_audio": ".mp4",
    "usvs.media.images.read_gray_image": ".png",
    "usvs.media.video.read_video_info": ".mp4",
    "usvs.models.weight_files.read_weights": ".safetensors",
    "usvs.utils.columns.map_column": ".mp4",
}
READ_ALL = """
import resource, signal, sys
from importlib import import_module
from pathlib import Path
from usvs.archive.settings import GazeSettings
from usvs.errors import UsvsError
for path, reader in zip(sys.argv[1::2], sys.argv[2::2]):
    module, _, name = reader.rpartition(".")
    read = getattr(import_module(module), name)
    first = [GazeSettings()] if name == "load_settings" else []
    resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))
    signal.alarm(20)
    try:
        read(*first, Path(path))
    except (UsvsError, OSError) as error:
        assert "regular file" in str(error), (reader, error)
    else:
        sys.exit(f"{reader} has read {path}")
"""


@pytest.mark.slow
def test_every_reader_refuses_a_pipe_and_a_device(tmp_path: Path):
    """In a process of its own with little memory, so that a reader that blocks or reads on is ended."""
    arguments = []
    for reader, suffix in READERS.items():
        pipe, device = tmp_path / f"{reader}-pipe{suffix}", tmp_path / f"{reader}-device{suffix}"
        os.mkfifo(pipe)
        device.symlink_to("/dev/zero")
        arguments += [pipe, reader, device, reader]
    run_python("-c", READ_ALL, *arguments)
