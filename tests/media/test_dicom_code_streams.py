"""Where the header of a DICOM file and its images disagree, the images decide, and it is noted."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from tests.support.dicom_files import gray_frames, write_dicom
from usvs.media.code_streams import read_code_stream
from usvs.media.video import iter_gray_frames, read_video_info

COLOURS = ((150, 110, 120), (100, 140, 130))  # luma 123 and 127; read as the other kind, 150 and 100
FRAMES = gray_frames(size=(48, 64))
JPEGS = [simplejpeg.encode_jpeg(frame[:, :, None].copy(), 95, "GRAY") for frame in FRAMES]


def pictures(path: Path) -> np.ndarray:
    return np.stack([gray for _, gray in iter_gray_frames(path)])


def write(path: Path, frames: int | None, content: bytes, syntax=JPEGBaseline8Bit, **tags) -> None:
    data = write_dicom(path, FRAMES, syntax=syntax, content=content, **({"FrameTime": 40} | tags))
    if frames is None:
        del data.NumberOfFrames
    else:
        data.NumberOfFrames = frames
    data.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("stated", [None, 1, 3])
@pytest.mark.parametrize("has_table", [False, True])
@pytest.mark.parametrize("fragments", [1, 3])
def test_every_frame_of_the_code_stream_is_read(tmp_path: Path, stated, has_table: bool, fragments: int):
    content = encapsulate(JPEGS, fragments_per_frame=fragments, has_bot=has_table)
    write(tmp_path / "a.dcm", stated, content)
    info = read_video_info(tmp_path / "a.dcm")
    found = pictures(tmp_path / "a.dcm")
    assert found.shape == FRAMES.shape and np.abs(found.astype(int) - FRAMES).max() <= 6
    announced = f"the header announces {stated or 'no number of'} frames, the file holds 6: all are read"
    assert info.file_note == announced and info.frames == 6
    np.testing.assert_allclose(info.timing.seconds, np.arange(6) * 0.04)


@pytest.mark.parametrize("fragments", [1, 2])
def test_a_right_number_of_frames_is_not_noted(tmp_path: Path, fragments: int):
    write(tmp_path / "a.dcm", 6, encapsulate(JPEGS, fragments_per_frame=fragments, has_bot=False))
    assert read_video_info(tmp_path / "a.dcm").file_note is None and len(pictures(tmp_path / "a.dcm")) == 6


def test_run_length_encoded_frames_beyond_the_stated_number_are_read(tmp_path: Path):
    data = write_dicom(tmp_path / "a.dcm", FRAMES, FrameTime=40)
    data.compress(RLELossless, generate_instance_uid=False)
    data.NumberOfFrames = 2
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(pictures(tmp_path / "a.dcm"), FRAMES)
    assert "announces 2 frames, the file holds 6" in str(read_video_info(tmp_path / "a.dcm").file_note)


def test_a_stated_number_that_is_no_number_does_not_cost_the_scan(tmp_path: Path):
    write(tmp_path / "a.dcm", 6, encapsulate(JPEGS))
    content = (tmp_path / "a.dcm").read_bytes()
    at = content.find(b"\x28\x00\x08\x00IS")
    (tmp_path / "a.dcm").write_bytes(content[: at + 8] + b"x " + content[at + 10 :])
    assert len(pictures(tmp_path / "a.dcm")) == 6


def test_the_size_of_the_code_stream_is_used(tmp_path: Path):
    write(tmp_path / "a.dcm", 6, encapsulate(JPEGS), Rows=24, Columns=32)
    info = read_video_info(tmp_path / "a.dcm")
    assert (info.width, info.height) == (64, 48)
    assert info.file_note == "the header announces 32 x 24 pixels, the images have 64 x 48: the images' are used"
    assert np.abs(pictures(tmp_path / "a.dcm").astype(int) - FRAMES).max() <= 6


@pytest.mark.parametrize("colour", [False, True])
def test_the_samples_and_bits_of_the_code_stream_are_used(tmp_path: Path, colour: bool):
    rgb = np.random.default_rng(0).integers(60, 200, (48, 64, 3)).astype(np.uint8)
    rgb = cv2.GaussianBlur(rgb, (0, 0), 4)
    coded = simplejpeg.encode_jpeg(rgb, 98, "RGB", "444") if colour else JPEGS[0]
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) if colour else FRAMES[0]
    stated = {} if colour else {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    write(tmp_path / "a.dcm", 1, encapsulate([coded]), BitsStored=12, BitsAllocated=16, HighBit=11, **stated)
    note = str(read_video_info(tmp_path / "a.dcm").file_note)
    assert f"announces {1 if colour else 3} samples per pixel, the images have {3 if colour else 1}" in note
    assert "announces 12 bits, the images have 8" in note
    assert np.abs(pictures(tmp_path / "a.dcm")[0].astype(int) - luma).max() <= 4


@pytest.mark.parametrize("is_rgb", [False, True])
def test_the_colours_of_the_code_stream_are_used(tmp_path: Path, is_rgb: bool):
    """A JFIF image is luma and chroma, whatever the header says; an Adobe image may state RGB."""
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:, :32], rgb[:, 32:] = COLOURS
    pixels = rgb[..., ::-1]
    ok, coded = cv2.imencode(".jpg", pixels if not is_rgb else _as_stored(rgb), [cv2.IMWRITE_JPEG_QUALITY, 100])
    content = coded.tobytes()
    if is_rgb:  # APP14 of Adobe, without a colour transform, in place of JFIF
        content = content[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00" + content[20:]
    assert ok
    stated = "YBR_FULL_422" if is_rgb else "RGB"
    tags = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": stated}
    write(tmp_path / "a.dcm", 1, encapsulate([content]), **tags)
    assert f"announces colours as {stated}" in str(read_video_info(tmp_path / "a.dcm").file_note)
    gray = pictures(tmp_path / "a.dcm")[0]
    for column, colour in zip((10, 50), COLOURS, strict=True):
        assert gray[24, column] == pytest.approx(np.dot(colour, [0.299, 0.587, 0.114]), abs=4)


def _as_stored(rgb: np.ndarray) -> np.ndarray:
    """Return BGR that OpenCV's encoder stores with the given red, green and blue as its three components."""
    y, cb, cr = (rgb[..., channel].astype(np.float64) for channel in range(3))
    red, blue = y + 1.402 * (cr - 128), y + 1.772 * (cb - 128)
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    return np.clip(np.stack([blue, green, red], -1), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("stored", "is_noted"), [(12, False), (8, True)])
def test_twelve_bits_in_a_code_stream_of_sixteen(tmp_path: Path, stored: int, is_noted: bool):
    """Encoders store 12 bits in images of 16: there the header knows more, unless it is impossible."""
    deep = (FRAMES.astype(np.uint16) << 4) + 8
    data = write_dicom(tmp_path / "a.dcm", deep, BitsStored=16, HighBit=15, FrameTime=40)
    data.compress(JPEG2000Lossless, generate_instance_uid=False)
    data.BitsStored, data.HighBit = stored, stored - 1
    data.BitsAllocated = 16 if stored == 12 else 8
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    info = read_video_info(tmp_path / "a.dcm")
    assert ("announces 8 bits, the images have 16" in str(info.file_note)) == is_noted
    scale = 16 if stored == 12 else 257
    assert np.abs(pictures(tmp_path / "a.dcm").astype(int) - deep / scale).max() <= 1.1


def test_what_an_image_states_is_read_from_every_kind():
    expected = (64, 48, 1, 8)
    is_coded, coded = cv2.imencode(".jp2", FRAMES[0])
    assert is_coded
    images = {"jpg": JPEGS[0], "jp2": coded.tobytes()}
    for image in images.values():
        stream = read_code_stream(image)
        assert stream is not None and (stream.width, stream.height, stream.samples, stream.bits) == expected
        for length in range(0, 60, 3):
            read_code_stream(image[:length])  # raises nothing
    assert read_code_stream(b"BM") is None


@pytest.mark.parametrize(
    ("tags", "rate_hz", "note"),
    [
        (
            {"FrameTime": "0.033"},
            1 / 0.033,
            "FrameTime states 0.033 ms, 30,303 frames per second, which is not possible; taken as seconds",
        ),
        ({"FrameTime": "0.033", "CineRate": 50}, 50, "which is not possible; CineRate is used"),
        (
            {"FrameTime": "0.033", "CineRate": 50_000, "RecommendedDisplayFrameRate": 20},
            20,
            "RecommendedDisplayFrameRate is used",
        ),
        ({"FrameTime": "33333"}, 30.0003, "taken as microseconds"),
        ({"FrameTimeVector": [0, 0.04, 0.04, 0.04, 0.04, 0.04]}, 25, "taken as seconds"),
        # one step of days would give thousands of clips of one frame
        ({"FrameTimeVector": [0, 40, 40, 40, 40, 1e9], "CineRate": 50}, 50, "states 1e+09 ms, 1e-06 frames per second"),
        ({"CineRate": 30_000}, 25, "no frame time in the DICOM: 25 frames per second are assumed"),
        ({"FrameTime": "0.000001"}, 25, "no frame time in the DICOM: 25 frames per second are assumed"),
        ({"FrameTime": "2"}, 500, None),
    ],
)
def test_an_impossible_frame_time_is_noted_and_replaced(tmp_path: Path, tags, rate_hz: float, note: str | None):
    if "FrameTime" in tags:
        tags = tags | {"FrameIncrementPointer": 0x00181063}
    write_dicom(tmp_path / "a.dcm", **tags)
    timing = read_video_info(tmp_path / "a.dcm").timing
    assert timing.rate_hz == pytest.approx(rate_hz, rel=1e-4)
    assert timing.note is None if note is None else note in str(timing.note)


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00280034, "IS", b"a\\b "),  # PixelAspectRatio
        (0x00181065, "DS", b"0\\x\\y "),  # FrameTimeVector
        (0x00180040, "IS", b"1.5x"),  # CineRate
        (0x00082144, "IS", b"zz"),  # RecommendedDisplayFrameRate
        (0x00281050, "DS", b"wide"),  # WindowCenter
        (0x00186011, "SQ", b"junk"),  # SequenceOfUltrasoundRegions
    ],
)
def test_optional_elements_that_cannot_be_read_do_not_cost_the_scan(tmp_path: Path, tag: int, vr: str, value: bytes):
    data = write_dicom(tmp_path / "a.dcm", FrameTime=40)
    content = (tmp_path / "a.dcm").read_bytes()
    element = tag.to_bytes(4, "big")
    element = element[1::-1] + element[3:1:-1] + vr.encode()
    element += (b"\0\0" + len(value).to_bytes(4, "little") if vr == "SQ" else len(value).to_bytes(2, "little")) + value
    later = next(one for one in data.iterall() if one.tag > tag)
    start = later.tag.group.to_bytes(2, "little") + later.tag.element.to_bytes(2, "little") + later.VR.encode()
    at = content.find(start, 132)
    assert at > 0
    (tmp_path / "b.dcm").write_bytes(content[:at] + element + content[at:])
    info = read_video_info(tmp_path / "b.dcm")
    assert info.frames == len(pictures(tmp_path / "b.dcm")) == 6
    np.testing.assert_array_equal(pictures(tmp_path / "b.dcm"), gray_frames())
