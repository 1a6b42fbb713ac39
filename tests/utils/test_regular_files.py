"""The one opener: pipes, devices, sockets and folders are refused at once, and large files before they are read."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import usvs
from usvs.utils.regular_files import RegularFileError, check_regular, open_regular, read_regular

ROOT = Path(usvs.__file__).resolve().parents[1]
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


def test_no_reader_opens_a_file_of_others_by_itself():
    """Every other `open` for reading is of a file that this package has just written."""
    own = {"utils/atomic_files.py", "utils/regular_files.py", "utils/private_files.py", "training/environment.py"}
    own |= {"training/checkpoint.py"}  # _sync_file
    found = []
    for path in sorted((ROOT / "usvs").rglob("*.py")):
        for line in path.read_text().splitlines():
            reads = re.search(r"\.read_text\(|\.read_bytes\(|\.open\(\"rb?\"|\.open\(newline=|\.open\(encoding=", line)
            if reads and path.relative_to(ROOT / "usvs").as_posix() not in own:
                found.append(f"{path.name}: {line.strip()}")
    assert found == []


READERS = {
    "gaze": "from usvs.archive.gaze import read_gaze as read",
    "labels": "from usvs.archive.labels import read_plane_labels as read",
    "manifest": "from usvs.archive.manifest import read_manifest as read",
    "settings": "from usvs.archive.settings import GazeSettings\nfrom usvs.config import load_settings\n"
    "def read(path): return load_settings(GazeSettings(), path)",
    "video": "from usvs.media.video import read_video_info as read",
    "audio": "from usvs.media.audio import read_audio as read",
    "image": "from usvs.media.images import read_gray_image as read",
    "weights": "from usvs.models.weight_files import read_weights as read",
    "column": "from usvs.utils.columns import map_column as read",
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_a_pipe_and_a_device(tmp_path: Path, reader: str):
    """In a process of its own with little memory, so that a reader that blocks or reads on is ended."""
    suffix = {"settings": ".toml", "image": ".png", "weights": ".safetensors"}.get(reader, ".mp4")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    script = f"""
import resource, signal, sys
from pathlib import Path
{READERS[reader]}
from usvs.errors import UsvsError
resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))
signal.alarm(60)
for path in map(Path, sys.argv[1:]):
    try:
        read(path)
    except (UsvsError, OSError) as error:
        assert "regular file" in str(error), error
    else:
        sys.exit(f"{{path}} was read")
"""
    files = [str(tmp_path / f"{kind}{suffix}") for kind in ("pipe", "device")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script, *files], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
