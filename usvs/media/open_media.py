"""Opening of files for FFmpeg: all its containers, and the video stream inside a DICOM file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from usvs.errors import DataError
from usvs.media.dicom_file import FragmentStream, is_dicom, open_dicom
from usvs.media.truncation import is_transport_stream
from usvs.utils.regular_files import check_regular, open_regular

# FFmpeg formats that are not videos: still images, text and playlists; FFmpeg would follow a playlist to other files
_REJECTED_FORMATS = (
    *("_pipe", "image2", "tty", "concat", "hls", "dash", "ass", "srt", "webvtt", "subviewer", "microdvd", "txd"),
)
# What FFmpeg takes a transport stream for whose first tables are lost: packet headers are then decoded as picture.
_ELEMENTARY_FORMATS = frozenset({"h264", "hevc", "mpegvideo", "m4v", "mpeg", "mp3", "aac", "ac3", "loas"})


@contextmanager
def open_media(path: Path, kind: str = "a video") -> Iterator[InputContainer]:
    """Open a file, or the stream inside a DICOM file, with FFmpeg.

    Args:
        path: file to open.
        kind: what the file should be, for the error message.

    Raises:
        DataError: with what is wrong with the file, without its name.
    """
    try:
        if check_regular(path) == 0:
            raise DataError("the file is empty (0 bytes)")
        if _is_gif(path) and not _has_gif_trailer(path):
            raise DataError("truncated: the GIF has no end mark")
        source = FragmentStream(open_dicom(path)) if is_dicom(path) else os.fspath(path.absolute())
        options = {"protocol_whitelist": "file"}
        container = av.open(source, "r", metadata_errors="replace", options=options)
        if container.format.name in _ELEMENTARY_FORMATS and not is_dicom(path) and is_transport_stream(path):
            container.close()
            container = av.open(source, "r", "mpegts", metadata_errors="replace", options=options)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"not readable as {kind}: {error.strerror or type(error).__name__}") from None
    with container:
        if any(part in container.format.name for part in _REJECTED_FORMATS):
            raise DataError(f"not readable as {kind}: got {_describe_format(container.format.name)}")
        yield container


def list_video_streams(container: InputContainer) -> list[VideoStream]:
    """Return the video streams, those of an unknown codec last.

    FFmpeg lists the cover picture of an audio file as one, which is left out.
    """
    streams = [stream for stream in container.streams.video if not _is_cover_picture(stream)]
    return sorted(streams, key=_is_unknown)


def list_audio_streams(container: InputContainer) -> list[AudioStream]:
    """Return the audio streams, those of an unknown codec last."""
    return sorted(container.streams.audio, key=_is_unknown)


def _is_unknown(stream: VideoStream | AudioStream) -> bool:
    context: Any = stream.codec_context
    return context is None


def _is_cover_picture(stream: VideoStream) -> bool:
    return bool(getattr(stream.disposition, "value", 0) & 0x0400)  # AV_DISPOSITION_ATTACHED_PIC


def _describe_format(name: str) -> str:
    return f"a still image ({name.removesuffix('_pipe')})" if name.endswith("_pipe") else f"a file of format '{name}'"


def _is_gif(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(4) == b"GIF8"


def _has_gif_trailer(path: Path) -> bool:
    with open_regular(path) as file:
        file.seek(-min(64, path.stat().st_size), os.SEEK_END)
        return file.read().rstrip(b"\0").endswith(b";")  # some writers pad the file after its end mark
