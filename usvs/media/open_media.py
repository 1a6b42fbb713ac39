"""Opening what FFmpeg reads: files of all its containers, and the stream inside a DICOM file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer

from usvs.errors import DataError
from usvs.media.dicom_file import FragmentStream, is_dicom, open_dicom

# FFmpeg's own messages name files; what matters of them is in the exceptions
av.logging.set_level(None)

# pictures, text and playlists; FFmpeg would follow a playlist to other files
_NO_VIDEO = ("_pipe", "image2", "tty", "concat", "hls", "dash", "ass", "srt", "webvtt", "subviewer", "microdvd", "txd")


@contextmanager
def open_media(path: Path, kind: str = "a video") -> Iterator[InputContainer]:
    """Open a file, or the stream inside a DICOM file, for FFmpeg.

    Args:
        path: of the file.
        kind: what it should be, for the message.

    Raises:
        DataError: with what is wrong with the file, never its name.
    """
    try:
        if path.stat().st_size == 0:
            raise DataError("the file is empty (0 bytes)")
        if _is_gif(path) and not _has_trailer(path):
            raise DataError("truncated: the GIF has no end mark")
        source = FragmentStream(open_dicom(path)) if is_dicom(path) else os.fspath(path.absolute())
        container = av.open(source, "r", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"not readable as {kind}: {error.strerror or type(error).__name__}") from None
    with container:
        if any(part in container.format.name for part in _NO_VIDEO):
            raise DataError(f"not a video but {_kind(container.format.name)}")
        yield container


def _kind(name: str) -> str:
    return f"a still picture ({name.removesuffix('_pipe')})" if name.endswith("_pipe") else f"a file of kind '{name}'"


def _is_gif(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GIF8"


def _has_trailer(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-min(64, path.stat().st_size), os.SEEK_END)
        return file.read().rstrip(b"\0").endswith(b";")  # some writers pad what follows the mark
