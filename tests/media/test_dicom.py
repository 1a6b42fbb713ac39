"""Multi-frame DICOM: all encodings, frame times from its tags, one frame in memory at a time.

One file because all of its tests write small DICOM files in the same few ways.
"""

import io
import shutil
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from tests.support.dicom_files import LEVELS, gray_frames, jpegs, write_dicom
from usvs.errors import DataError
from usvs.media import dicom as dicom_module
from usvs.media.audio import read_audio
from usvs.media.box import Box
from usvs.media.dicom_file import open_dicom
from usvs.media.video import iter_gray_frames, iter_keyframes, read_video_info
from usvs.media.video_info import VideoDecodeStats
from usvs.store.catalogue import Catalogue
from usvs.store.indexing import index_archive
from usvs.store.keys import Keys
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.store.settings import PrepareSettings

H264 = UID("1.2.840.10008.1.2.4.102")


def pictures(path: Path) -> np.ndarray:
    return np.stack([gray for _, gray in iter_gray_frames(path)])


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_monochrome(tmp_path: Path, photometric: str):
    write_dicom(tmp_path / "a.dcm", photometric=photometric, FrameTime=40)
    expected = gray_frames() if photometric == "MONOCHROME2" else 255 - gray_frames()
    np.testing.assert_array_equal(pictures(tmp_path / "a.dcm"), expected)


def test_colour_is_converted_to_luma_once(tmp_path: Path):
    rgb = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 3)).astype(np.uint8)
    luma = np.round(rgb @ [0.299, 0.587, 0.114])
    write_dicom(tmp_path / "rgb.dcm", rgb, photometric="RGB", FrameTime=40)
    assert np.abs(pictures(tmp_path / "rgb.dcm") - luma).max() <= 1
    ybr = convert_color_space(rgb, "RGB", "YBR_FULL")
    write_dicom(tmp_path / "full.dcm", ybr, photometric="YBR_FULL", FrameTime=40)
    np.testing.assert_array_equal(pictures(tmp_path / "full.dcm"), ybr[..., 0])
    pairs = np.stack([ybr[:, :, 0::2, 0], ybr[:, :, 1::2, 0], ybr[:, :, 0::2, 1], ybr[:, :, 0::2, 2]], axis=-1)
    write_dicom(tmp_path / "422.dcm", ybr, photometric="YBR_FULL_422", content=pairs.tobytes(), FrameTime=40)
    np.testing.assert_array_equal(pictures(tmp_path / "422.dcm"), ybr[..., 0])
    write_dicom(
        tmp_path / "not422.dcm", ybr, photometric="YBR_FULL_422", FrameTime=40
    )  # states 4:2:2 but is not subsampled
    np.testing.assert_array_equal(pictures(tmp_path / "not422.dcm"), ybr[..., 0])


def test_palette_colours_are_applied(tmp_path: Path):
    colours = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")}
    tables = {
        f"{name}PaletteColorLookupTableData": (np.arange(255, -1, -1) * 257).astype("<u2").tobytes()
        for name in ("Red", "Green", "Blue")
    }
    write_dicom(tmp_path / "a.dcm", photometric="PALETTE COLOR", FrameTime=40, **colours, **tables)
    np.testing.assert_array_equal(pictures(tmp_path / "a.dcm"), 255 - gray_frames())


def test_twelve_bits_are_scaled_by_window_or_by_range(tmp_path: Path):
    deep = (gray_frames().astype(np.uint16) << 4) + 8
    write_dicom(tmp_path / "range.dcm", deep, BitsStored=12, HighBit=11, FrameTime=40)
    assert np.abs(pictures(tmp_path / "range.dcm").astype(int) - gray_frames()).max() <= 1
    window = {"WindowCenter": 1024.5, "WindowWidth": 2049}
    write_dicom(tmp_path / "window.dcm", deep, BitsStored=12, HighBit=11, FrameTime=40, **window)
    expected = np.clip(deep / 2048 * 255, 0, 255)
    assert np.abs(pictures(tmp_path / "window.dcm") - expected).max() <= 1
    none = {"WindowCenter": 1024, "WindowWidth": 0, "RescaleSlope": 2, "RescaleIntercept": -1000}
    write_dicom(tmp_path / "none.dcm", deep, BitsStored=12, HighBit=11, FrameTime=40, **none)
    np.testing.assert_array_equal(pictures(tmp_path / "none.dcm"), pictures(tmp_path / "range.dcm"))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=["rle", "jpeg-ls", "jpeg-2000"])
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "RGB"])
def test_lossless_compression_is_read_exactly(tmp_path: Path, syntax: UID, photometric: str):
    gray = gray_frames(size=(64, 96))
    pixels = gray if photometric == "MONOCHROME2" else np.repeat(gray[..., None], 3, axis=-1)
    data = write_dicom(tmp_path / "a.dcm", pixels, photometric=photometric, FrameTime=40)
    data.compress(syntax, generate_instance_uid=False)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert np.abs(pictures(tmp_path / "a.dcm").astype(int) - gray).max() <= (photometric == "RGB")


def test_jpeg_frames_are_read_and_a_damaged_one_is_counted(tmp_path: Path):
    frames = gray_frames()
    write_dicom(tmp_path / "a.dcm", syntax=JPEGBaseline8Bit, content=jpegs(frames), FrameTime=40)
    complete = pictures(tmp_path / "a.dcm")
    assert complete.shape == frames.shape and np.abs(complete.astype(int) - frames).max() <= 6
    content = bytearray((tmp_path / "a.dcm").read_bytes())
    starts = [at for at in range(len(content)) if content[at : at + 3] == b"\xff\xd8\xff"]
    content[starts[2] : starts[2] + 60] = bytes(60)
    (tmp_path / "b.dcm").write_bytes(bytes(content))
    stats = VideoDecodeStats()
    rest = list(iter_gray_frames(tmp_path / "b.dcm", None, stats))
    assert (stats.frames, stats.damaged_packets) == (5, 1)
    np.testing.assert_allclose([seconds for seconds, _ in rest], [0, 0.04, 0.12, 0.16, 0.2], atol=1e-9)
    np.testing.assert_array_equal(np.stack([gray for _, gray in rest]), np.delete(complete, 2, axis=0))


def test_lossless_jpeg_of_a_real_scanner():
    path = get_testdata_file("JPGLosslessP14SV1_1s_1f_8b.dcm", download=False)  # Philips, an echocardiogram
    if path is None:
        pytest.skip("pydicom-data is not installed")
    (gray,) = pictures(Path(path))
    np.testing.assert_array_equal(gray, pydicom.pixels.pixel_array(path))


@pytest.mark.parametrize(
    ("tags", "seconds", "note"),
    [
        ({"FrameTime": 25, "FrameIncrementPointer": 0x00181063}, np.arange(6) * 0.025, None),
        (
            {"FrameTimeVector": [0, 20, 40, 20, 60, 20], "FrameTime": 25, "FrameIncrementPointer": 0x00181065},
            [0, 0.02, 0.06, 0.08, 0.14, 0.16],
            None,
        ),
        ({"FrameTimeVector": [20, 40, 20, 60, 20]}, [0, 0.02, 0.06, 0.08, 0.14, 0.16], None),
        (
            {"FrameTimeVector": [0, 20], "FrameTime": 25},
            np.arange(6) * 0.025,
            "FrameTimeVector does not fit the number of frames: FrameTime is used",
        ),
        (
            {"FrameTimeVector": [0.0] * 6, "CineRate": 50},
            np.arange(6) / 50,
            "FrameTimeVector does not fit the number of frames: CineRate is used",
        ),
        ({"CineRate": 50, "RecommendedDisplayFrameRate": 10}, np.arange(6) / 50, None),
        ({"RecommendedDisplayFrameRate": 10}, np.arange(6) / 10, None),
        ({}, np.arange(6) / 25, "no frame time in the DICOM"),
    ],
)
def test_frame_times_come_from_the_dicom_tags(tmp_path: Path, tags, seconds, note):
    write_dicom(tmp_path / "a.dcm", **tags)
    timing = read_video_info(tmp_path / "a.dcm").timing
    np.testing.assert_allclose(timing.seconds, seconds, atol=1e-9)
    assert timing.note is None if note is None else note in timing.note
    np.testing.assert_allclose([moment for moment, _ in iter_gray_frames(tmp_path / "a.dcm")], seconds, atol=1e-9)


@pytest.mark.parametrize("frames", [0, 2])
def test_frames_beyond_the_stated_number_are_read_and_noted(tmp_path: Path, frames: int):
    write_dicom(tmp_path / "a.dcm", frames=frames, FrameTime=40)
    info = read_video_info(tmp_path / "a.dcm")
    assert info.frames == len(pictures(tmp_path / "a.dcm")) == 6
    stated = frames or "no number of"
    assert info.file_note == f"the header announces {stated} frames, the file holds 6: all are read"


def test_pixels_that_are_no_whole_number_of_frames_are_not_read_as_frames(tmp_path: Path):
    write_dicom(tmp_path / "a.dcm", frames=2, FrameTime=40, content=gray_frames().tobytes()[:-100])
    info = read_video_info(tmp_path / "a.dcm")
    assert info.frames == len(pictures(tmp_path / "a.dcm")) == 2
    assert "are not a multiple of a frame's 768: the first 2 are read" in str(info.file_note)


def test_a_pixel_aspect_of_one_number_is_ignored(tmp_path: Path):
    write_dicom(tmp_path / "a.dcm", FrameTime=40, PixelAspectRatio=[1])
    assert read_video_info(tmp_path / "a.dcm").pixel_aspect == 1.0


def h264(levels=LEVELS, sound: bool = False) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="mpegts") as container:
        video = container.add_stream("libx264", rate=20, options={"bf": "2"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("mp2", rate=48_000, layout="mono") if sound else None
        for number, level in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64), level, np.uint8), format="gray")
            frame = frame.reformat(format="yuv420p", dst_color_range="MPEG")
            frame.pts, frame.time_base = number, Fraction(1, 20)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for first in range(0, 24_000 if audio else 0, 1152):
            frame = av.AudioFrame.from_ndarray(np.full((1, 1152), 4000, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, first, Fraction(1, 48_000)
            container.mux(audio.encode(frame))
        if audio:
            container.mux(audio.encode(None))
    return target.getvalue()


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_video_stream_inside_a_dicom(tmp_path: Path, pieces: int):
    stream = h264(sound=True)
    size = -(-len(stream) // pieces)
    content = encapsulate([stream[at : at + size] for at in range(0, len(stream), size)], has_bot=False)
    tags = {"FrameTime": 40, "FrameIncrementPointer": 0x00181063}
    blank = np.zeros((6, 48, 64), np.uint8)
    write_dicom(tmp_path / "a.dcm", blank, photometric="YBR_PARTIAL_420", syntax=H264, content=content, **tags)
    info = read_video_info(tmp_path / "a.dcm")
    assert (info.video_codec, info.frames, info.width, info.height) == ("h264", 6, 64, 48)
    frames = list(iter_gray_frames(tmp_path / "a.dcm", info))
    np.testing.assert_allclose(
        [moment for moment, _ in frames], np.arange(6) * 0.04, atol=1e-9
    )  # the tag, not the 50 ms of the stream
    np.testing.assert_allclose([gray.mean() for _, gray in frames], LEVELS, atol=4)
    assert info.audio_codec == "mp2"
    assert np.abs(read_audio(tmp_path / "a.dcm", None, 24_000)[4000:8000]).mean() > 0.05


def test_the_stated_region_is_in_display_pixels(tmp_path: Path):
    write_dicom(tmp_path / "a.dcm", FrameTime=40, region=(4, 2, 27, 21))
    assert read_video_info(tmp_path / "a.dcm").region == Box(4, 2, 28, 22)
    write_dicom(tmp_path / "oblong.dcm", FrameTime=40, region=(4, 2, 27, 21), PixelAspectRatio=[1, 2])
    info = read_video_info(tmp_path / "oblong.dcm")
    assert (info.width, info.height, info.region) == (64, 24, Box(8, 2, 56, 22))
    complete = next(iter_gray_frames(tmp_path / "oblong.dcm"))[1]
    assert complete.shape == (24, 64)
    part = next(iter_gray_frames(tmp_path / "oblong.dcm", box=info.region))[1]
    np.testing.assert_array_equal(part, complete[2:22, 8:56])
    write_dicom(tmp_path / "other.dcm", FrameTime=40, region=(4, 2, 500, 21))  # stated for another size
    assert read_video_info(tmp_path / "other.dcm").region is None


def test_one_frame_is_in_memory_at_a_time(tmp_path: Path):
    frame = np.full((1, 200, 200), 90, np.uint8)
    write_dicom(tmp_path / "a.dcm", np.repeat(frame, 400, axis=0), FrameTime=40)  # 16 MB
    tracemalloc.start()
    count = sum(1 for _ in iter_gray_frames(tmp_path / "a.dcm"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 400 and peak < 2e6


def test_selected_frames_are_read_alone(tmp_path: Path):
    write_dicom(tmp_path / "a.dcm", FrameTime=40)
    info = read_video_info(tmp_path / "a.dcm")
    found = np.stack(list(iter_keyframes(tmp_path / "a.dcm", info, np.array([1, 4]))))
    np.testing.assert_array_equal(found, gray_frames()[[1, 4]])


@pytest.mark.parametrize("coded", [False, True])
def test_a_truncated_dicom_is_an_error(tmp_path: Path, coded: bool):
    given = {"syntax": JPEGBaseline8Bit, "content": jpegs(gray_frames())} if coded else {}
    write_dicom(tmp_path / "a.dcm", FrameTime=40, **given)
    complete = (tmp_path / "a.dcm").read_bytes()
    for fraction, words in ((0.9, "truncated"), (0.1, "DICOM")):
        (tmp_path / "b.dcm").write_bytes(complete[: int(len(complete) * fraction)])
        with pytest.raises(DataError, match=words) as caught:
            read_video_info(tmp_path / "b.dcm")
        assert "DOE" not in str(caught.value)
    write_dicom(tmp_path / "c.dcm", FrameTime=40, frames=9, **given)
    with pytest.raises(DataError, match="truncated: expected 9 frames as stated in the header, got 6"):
        read_video_info(tmp_path / "c.dcm")


def test_missing_images_and_missing_decoders_are_errors(tmp_path: Path, monkeypatch):
    data = write_dicom(tmp_path / "a.dcm", FrameTime=40)
    del data.PixelData
    data.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    with pytest.raises(DataError, match="holds no images"):
        read_video_info(tmp_path / "report.dcm")

    class Missing:
        is_available = False

    monkeypatch.setattr(dicom_module, "get_decoder", lambda syntax: Missing())
    with pytest.raises(DataError, match=r"pip install 'usvs\[dicom\]'"):
        read_video_info(tmp_path / "a.dcm")


def test_a_real_cine_is_prepared_frame_by_frame(tmp_path: Path):
    path = get_testdata_file("color3d_jpeg_baseline.dcm", download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    archive, store = tmp_path / "archive", tmp_path / "store"
    (archive / "patient").mkdir(parents=True)
    shutil.copy(path, archive / "patient" / "IM0001")  # as scanners name files on a disc
    assert index_archive(archive, store, workers=1).usable == 1
    assert prepare_store(store, profile=PrepareSettings(frame_pixels=64, codec="raw"), workers=1).differences == {}
    (key,) = PreparedStore(store).scans
    scan = PreparedStore(store).scan(0)
    np.testing.assert_allclose(scan.frame_seconds, np.arange(120) * 0.033333, atol=1e-9)
    (row,) = Catalogue.load(store).scans.to_pylist()
    left, top, right, bottom = scan.manifest.sector
    assert row["sector_source"] == "region" and left >= 84 and top >= 31 and right <= 596 and bottom <= 415
    assert PreparedStore(store).clips.start_seconds.tolist() == [0, 2]  # 120 frames of 33.333 ms: two clips of 60
    for number, frame in enumerate(pydicom.pixels.iter_pixels(path, raw=True, decoding_plugin="pillow")):
        luma = np.ascontiguousarray(frame[top:bottom, left:right, 0])
        cropped = cv2.resize(luma, (64, 64), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(scan.frames(np.array([number]))[0], cropped)
    written = b"".join(file.read_bytes() for file in (store / "prepared" / key).iterdir())
    assert b"IM0001" not in written


def test_patient_ids_separate_patients_and_are_stored_as_hashes_only(tmp_path: Path):
    archive, store = tmp_path / "archive", tmp_path / "store"
    ids = {"2019/a.dcm": "MRN77", "2020/b.dcm": " MRN77 ", "2020/c.dcm": "MRN78", "2021/d.dcm": "ANONYMOUS"}
    for path, name in {**ids, "2021/e.dcm": "", "2021/f.dcm": "MRN77"}.items():
        write_dicom(archive / path, PatientID=name)
    (archive / "manifest.csv").write_text("scan,patient\n2021/f.dcm,MRN78\n")

    def patients() -> list[str | None]:
        index_archive(archive, store, workers=1)
        return Catalogue.load(store).scans["patient_key"].to_pylist()

    found, keys = patients(), Keys.load(store).patient_key
    one, other = keys("MRN77"), keys("MRN78")
    # the folder 2020 links MRN77 to MRN78, and f links 2021 to both
    assert found == [other] * 6
    (archive / "manifest.csv").unlink()
    assert patients() == [min(one, other)] * 6
    written = b"".join(file.read_bytes() for file in store.rglob("*") if file.is_file())
    assert b"MRN7" not in written and "MRN7" not in repr(read_video_info(archive / "2019/a.dcm"))


@pytest.mark.parametrize(
    ("name", "frames", "size"),
    [("color3d_jpeg_baseline.dcm", 120, (480, 640)), ("examples_ybr_color.dcm", 30, (240, 320))],
)
def test_real_cines_equal_what_pydicom_decodes(name: str, frames: int, size: tuple[int, int]):
    """The SonoSite echocardiogram of pydicom-data, and its smaller copy in pydicom."""
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    info = read_video_info(Path(path))
    assert info.frames == frames and info.timing.rate_hz == pytest.approx(30, abs=0.01) and info.timing.note is None
    found = pictures(Path(path))
    assert found.shape == (frames, *size)
    data = pydicom.dcmread(path)
    for number in (0, frames // 2, frames - 1):
        luma = pydicom.pixels.pixel_array(path, index=number, raw=True)[..., 0]
        assert np.abs(found[number].astype(int) - luma).max() <= 3  # two JPEG decoders
    assert data.PhotometricInterpretation == "YBR_FULL_422"


def test_long_private_elements_are_not_read_into_memory(tmp_path: Path):
    """Scanners keep raw data of hundreds of megabytes before the pixels."""
    path = tmp_path / "a.dcm"
    write_dicom(path)
    expected = [gray for _, gray in iter_gray_frames(path)]
    header = pydicom.dcmread(path)
    header.private_block(0x29, "ACME", create=True).add_new(0x10, "OB", bytes(2 << 20))
    header.save_as(path)
    read = open_dicom(path).header
    assert (0x29, 0x0010) in read and (0x29, 0x1010) not in read
    np.testing.assert_array_equal([gray for _, gray in iter_gray_frames(path)], expected)
