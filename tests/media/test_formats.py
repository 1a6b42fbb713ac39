"""Display orientation, pixel aspect, edit lists, odd sizes, colour ranges, and AVI without presentation times."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.dicom_files import write_dicom
from tests.support.media_files import write_video
from usvs.archive.discovery import discover_scans
from usvs.errors import DataError
from usvs.media.audio import read_audio
from usvs.media.box import Box
from usvs.media.grayscale import expand_limited_range
from usvs.media.open_media import open_media
from usvs.media.video import iter_gray_frames, iter_keyframes, read_video_info
from usvs.media.video_info import VideoDecodeStats

LOSSLESS = {"qp": "0", "preset": "ultrafast"}


def corner(height: int = 48, width: int = 64) -> np.ndarray:
    """Return an image that is bright in its upper left quarter and half as bright in its upper right."""
    picture = np.full((height, width), 20)
    picture[: height // 2, : width // 2] = 230
    picture[: height // 2, width // 2 :] = 120
    return picture


def remux(source: Path, target: Path, change) -> Path:
    with av.open(str(source)) as one, av.open(str(target), "w") as other:
        stream = other.add_stream_from_template(one.streams.video[0])
        change(stream)
        for packet in one.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                other.mux(packet)
    return target


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_stated_rotation_is_applied(tmp_path: Path, ending: str, degrees: int):
    flat = write_video(tmp_path / "flat.mp4", pictures=[corner()] * 3, options=LOSSLESS)
    path = remux(flat, tmp_path / f"turned.{ending}", lambda stream: stream.set_display_rotation(degrees))
    info = read_video_info(path)
    expected = np.rot90(corner(), degrees // 90)
    assert (info.height, info.width) == expected.shape
    gray = next(iter_gray_frames(path, info))[1]
    assert np.abs(gray.astype(int) - expected).max() <= 3
    keyframe = next(iter_keyframes(path, info, info.timing.keyframes[:1]))
    np.testing.assert_array_equal(keyframe, gray)


def test_anamorphic_pixels_are_made_square(tmp_path: Path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20, options=LOSSLESS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        frame = av.VideoFrame.from_ndarray(corner().astype(np.uint8), format="gray")
        container.mux(stream.encode(frame.reformat(format="yuv420p", dst_color_range="MPEG")))
        container.mux(stream.encode(None))
    info = read_video_info(path)
    assert (info.width, info.height, info.pixel_aspect) == (96, 48, 1.5)
    gray = next(iter_gray_frames(path))[1]
    assert gray.shape == (48, 96)
    assert gray[10, 40] > 200 and gray[10, 60] < 130  # the edge of the bright quarter is still in the middle


@pytest.mark.parametrize(
    "shown",
    [{}, {"full_range": True}, {"degrees": 90}, {"form": "yuv420p10le"}],
    ids=["stored", "full range", "turned", "ten bits"],
)
def test_a_box_is_cut_out_in_display_orientation(tmp_path: Path, shown: dict):
    degrees, picture = shown.pop("degrees", 0), np.random.default_rng(2).integers(0, 256, (48, 64))
    path = write_video(tmp_path / "a.mkv", pictures=[picture] * 3, options=LOSSLESS, **shown)
    if degrees:
        path = remux(path, tmp_path / "turned.mkv", lambda stream: stream.set_display_rotation(degrees))
    box = Box(5, 3, 30, 40)
    info = read_video_info(path)
    complete, cropped = list(iter_gray_frames(path, info)), list(iter_gray_frames(path, info, box=box))
    assert len(cropped) == 3 and np.ptp(complete[0][1]) > 200
    for (moment, gray), (same, part) in zip(complete, cropped, strict=True):
        assert moment == same
        np.testing.assert_array_equal(part, gray[3:40, 5:30])


def test_limited_range_is_expanded_to_the_nearest_level():
    luma = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.clip(np.round((luma - 16.0) * 255 / 219), 0, 255)
    np.testing.assert_array_equal(expand_limited_range(luma), expected)
    np.testing.assert_array_equal(expand_limited_range(luma[2:9, 3:7]), expected[2:9, 3:7])


def test_an_edit_list_removes_the_beginning(tmp_path: Path):
    """Frames before the edit are decoded and not returned; the audio is cut at the same time."""
    pictures = [np.full((48, 64), 10 * n + 10) for n in range(20)]
    sound = np.zeros(48_000)
    sound[24_000:26_400] = 0.5 * np.sin(np.arange(2400) * 0.4)  # at 0.5 s of the uncut file
    path = write_video(tmp_path / "a.mov", pictures=pictures, rate=20, sound=sound, options={"bf": "0"})
    content = bytearray(path.read_bytes())
    moments = [at for at in range(len(content)) if content[at : at + 4] == b"elst"]
    assert len(moments) == 2  # one for each stream
    for at, timescale in zip(moments, (90_000, 48_000), strict=True):
        entry = at + 4 + 4 + 4  # version and flags, number of entries
        begin = int.from_bytes(content[entry + 4 : entry + 8], "big")
        content[entry + 4 : entry + 8] = (begin + timescale // 5).to_bytes(4, "big")  # 0.2 s later
    path.write_bytes(bytes(content))
    frames = list(iter_gray_frames(path))
    info = read_video_info(path)
    assert len(frames) == info.frames == 16
    np.testing.assert_allclose([seconds for seconds, _ in frames], np.arange(16) / 20, atol=1e-4)
    np.testing.assert_allclose([gray.mean() for _, gray in frames], np.arange(4, 20) * 10 + 10, atol=3)
    audio_start = np.flatnonzero(np.abs(read_audio(path, None, 24_000)) > 0.2)[0] / 24_000
    assert audio_start == pytest.approx(0.3, abs=0.005)


@pytest.mark.parametrize(("codec", "form", "size"), [("ffv1", "gray", (37, 53)), ("ffv1", "yuv444p", (1, 3))])
def test_odd_sizes_and_gray_are_exact_to_the_pixel(tmp_path: Path, codec: str, form: str, size: tuple[int, int]):
    picture = np.random.default_rng(1).integers(0, 256, size)
    path = write_video(tmp_path / "a.mkv", pictures=[picture], codec=codec, form=form, full_range=True)
    gray = next(iter_gray_frames(path))[1]
    assert gray.shape == size and np.abs(gray.astype(int) - picture).max() <= 1


def test_colour_is_reduced_to_luma(tmp_path: Path):
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:, :32], rgb[:, 32:] = (200, 40, 40), (40, 40, 200)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20, options=LOSSLESS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv444p", dst_color_range="MPEG")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    gray = next(iter_gray_frames(path))[1]
    for column, colour in ((10, (200, 40, 40)), (50, (40, 40, 200))):
        assert gray[24, column] == pytest.approx(np.dot(colour, [0.299, 0.587, 0.114]), abs=3)


def test_avi_of_h264_without_presentation_times(tmp_path: Path):
    """AVI stores decoding times only: frames are returned in presentation order, evenly spaced."""
    pictures = [np.full((48, 64), 8 * n + 10) for n in range(24)]
    tone = 0.5 * np.sin(np.arange(48_000) * 0.3)
    given = {"sound": tone, "sound_codec": "pcm_s16le", "options": {"bf": "3", "preset": "fast"}}
    path = write_video(tmp_path / "a.avi", pictures=pictures, rate=20, **given)
    info, stats = read_video_info(path), VideoDecodeStats()
    frames = list(iter_gray_frames(path, info, stats))
    assert stats == VideoDecodeStats(frames=24) and info.frames == 24
    np.testing.assert_allclose([gray.mean() for _, gray in frames], np.arange(24) * 8 + 10, atol=3)
    np.testing.assert_allclose(np.diff([seconds for seconds, _ in frames]), 0.05, atol=0.001)
    assert info.timing.start_seconds == 0.0 and np.abs(read_audio(path, None, 24_000)[:100]).max() > 0.4


def test_a_file_is_read_by_content_and_a_wrong_suffix_is_noted(make_video):
    path = make_video("a.mp4")
    other = path.rename(path.with_suffix(".avi"))
    info = read_video_info(other)
    assert info.file_note is not None and "the suffix is .avi, the file is mov: read as mov" in info.file_note
    assert len(list(iter_gray_frames(other, info))) == 20


@pytest.mark.parametrize("codec", ["png", "mjpeg", "bmp"])
def test_a_still_image_is_not_a_video(tmp_path: Path, codec: str):
    path = tmp_path / "still.mp4"
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream(codec, rate=1)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = {"png": "gray", "mjpeg": "yuvj420p", "bmp": "bgr24"}[codec]
        frame = av.VideoFrame.from_ndarray(corner().astype(np.uint8), format="gray").reformat(format=stream.pix_fmt)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, match="not readable as a video: got a still image"):
        read_video_info(path)


def test_playlists_are_not_followed(tmp_path: Path, make_video):
    video = make_video("a.mp4")
    for name, text in (
        ("list.mp4", f"ffconcat version 1.0\nfile '{video}'\n"),
        ("live.mp4", f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{video}\n#EXT-X-ENDLIST\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError), open_media(tmp_path / name):
            pass


def test_dicom_without_a_suffix_is_found(tmp_path: Path):
    for name in ("p1/IM0001", "p1/1.2.840.113619.2", "p1/a.dcm"):
        write_dicom(tmp_path / name, FrameTime=40)
    (tmp_path / "p1/README").write_text("nothing")
    assert [scan.path for scan in discover_scans(tmp_path).scans] == ["p1/1.2.840.113619.2", "p1/IM0001", "p1/a.dcm"]


def test_of_several_video_streams_the_first_is_used_and_noted(tmp_path: Path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=20, options=LOSSLESS) for _ in range(2)]
        for stream, size in zip(streams, ((64, 48), (32, 24)), strict=True):
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for stream in streams:
            picture = corner(stream.height, stream.width).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    info = read_video_info(path)
    assert (info.width, info.file_note) == (64, "2 video streams in the file (64 x 48, 32 x 24): the first is used")


def test_mirroring_is_not_applied_and_not_mistaken_for_a_rotation(tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", pictures=[corner()] * 3, options=LOSSLESS)
    content = bytearray(path.read_bytes())
    one = (0x00010000).to_bytes(4, "big")
    at = content.find(one + bytes(12) + one, content.find(b"tkhd"))
    content[at : at + 4] = (0xFFFF0000).to_bytes(
        4, "big"
    )  # left becomes right; FFmpeg reports a rotation by 180 degrees
    path.write_bytes(bytes(content))
    info = read_video_info(path)
    assert (info.rotation_degrees, info.file_note) == (
        0,
        "the file asks for a mirrored image: mirroring is not applied",
    )
    assert np.abs(next(iter_gray_frames(path, info))[1].astype(int) - corner()).max() <= 3
