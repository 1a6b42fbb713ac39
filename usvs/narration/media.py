"""Files of a scan as a recorder writes them: H.264 and AAC in one mp4."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

AAC_SAMPLES = 1024
AAC_BITS_PER_SECOND = 96_000
LIMITED_RANGE: NDArray[np.uint8] = np.round(16 + np.arange(256) * 219 / 255).astype(np.uint8)


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    frame_rate_hz: int,
    crf: int,
    sound: NDArray[np.float32],
    sound_rate_hz: int,
) -> int:
    """Write frames and mono sound, both starting at time 0, and return the number of frames.

    Args:
        path: of the mp4 file.
        frames: planar YUV 4:2:0, limited range, each [height * 3 / 2, width].
        frame_rate_hz: constant frame rate.
        crf: quality of x264; lower is better.
        sound: [samples] within plus or minus one.
        sound_rate_hz: of the sound.
    """
    count = 0
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=frame_rate_hz)
        video.pix_fmt = "yuv420p"
        video.options = {"preset": "superfast", "crf": str(crf), "g": str(2 * frame_rate_hz)}
        video.codec_context.thread_count = 1
        _set_colour_metadata(video.codec_context)
        audio = container.add_stream("aac", rate=sound_rate_hz, layout="mono", bit_rate=AAC_BITS_PER_SECOND)
        written = 0
        for count, planar in enumerate(frames, start=1):
            if count == 1:
                video.width, video.height = planar.shape[1], planar.shape[0] * 2 // 3
            picture = av.VideoFrame.from_ndarray(planar, format="yuv420p")
            picture.pts, picture.time_base = count - 1, Fraction(1, frame_rate_hz)
            picture.color_range = 1
            container.mux(video.encode(picture))
            written = _write_sound(container, audio, sound, written, round(count / frame_rate_hz * sound_rate_hz))
        container.mux(video.encode(None))
        _write_sound(container, audio, sound, written, len(sound) + AAC_SAMPLES)
        container.mux(audio.encode(None))
    return count


def _set_colour_metadata(context: VideoCodecContext) -> None:
    """State limited range; x264 writes it only together with a named colour space, here BT.601."""
    context.color_range = 1
    context.colorspace = context.color_primaries = context.color_trc = 6


def _write_sound(
    container: OutputContainer, audio: AudioStream, sound: NDArray[np.float32], first: int, until: int
) -> int:
    """Encode complete AAC frames from sample `first` up to `until`; return the first sample that is not encoded."""
    while first < len(sound) and first + AAC_SAMPLES <= until:
        piece = sound[None, first : first + AAC_SAMPLES]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece, np.float32), format="fltp", layout="mono")
        frame.sample_rate = audio.rate
        frame.pts, frame.time_base = first, Fraction(1, audio.rate)
        container.mux(audio.encode(frame))
        first += AAC_SAMPLES
    return first
