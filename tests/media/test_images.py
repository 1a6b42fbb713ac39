"""The one reader of still images: depth, orientation, palette, transparency and limits."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from usvs.archive.importers.fetal_planes import import_fetal_planes
from usvs.errors import DataError
from usvs.inference.frames import read_image_frame
from usvs.media.box import Box
from usvs.media.images import read_gray_image
from usvs.media.video import iter_gray_frames

GRAY = np.tile(np.linspace(0, 250, 160).astype(np.uint8), (120, 1))
GRAY[:20, :20] = 255


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("bits", [9, 10, 12, 16])
def test_the_highest_bit_in_use_is_full_scale(tmp_path: Path, ending: str, bits: int):
    deep = np.round(GRAY.astype(np.float64) * (2**bits - 1) / 255).astype(np.uint16)
    cv2.imwrite(str(tmp_path / f"a.{ending}"), deep)
    np.testing.assert_allclose(read_gray_image(tmp_path / f"a.{ending}"), GRAY, atol=0.6)


def test_eight_bits_in_sixteen_are_kept(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "a.png"), GRAY.astype(np.uint16))
    np.testing.assert_array_equal(read_gray_image(tmp_path / "a.png"), GRAY)


@pytest.mark.parametrize("is_shifted", [False, True])
@pytest.mark.parametrize("largest", [200, 1000, 4095])
def test_the_significant_bits_that_a_png_states_take_precedence(tmp_path: Path, is_shifted: bool, largest: int):
    """The standard has them as the upper bits; converters from DICOM leave them as the lower ones."""
    twelve = np.round(GRAY.astype(np.float64) * largest / 255).astype(np.uint16) | 1
    cv2.imwrite(str(tmp_path / "a.png"), twelve << 4 if is_shifted else twelve)
    content = (tmp_path / "a.png").read_bytes()
    chunk = b"sBIT" + bytes([12])
    chunk = struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    np.testing.assert_allclose(read_gray_image(tmp_path / "a.png"), twelve * (255 / 4095), atol=0.07)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
@pytest.mark.parametrize(("orientation", "turned"), [(3, 2), (6, -1), (8, 1)])
def test_the_exif_orientation_is_applied(tmp_path: Path, ending: str, orientation: int, turned: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GRAY).save(tmp_path / f"a.{ending}", exif=exif, **({"quality": 98} if ending == "jpg" else {}))
    found = read_gray_image(tmp_path / f"a.{ending}")
    np.testing.assert_allclose(found, np.rot90(GRAY, turned), atol=16 if ending == "jpg" else 0)


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA", "LA", "1"])
def test_palettes_and_transparency(tmp_path: Path, mode: str):
    image = Image.fromarray(GRAY)
    if mode == "LA":
        image = Image.merge("LA", (image, Image.fromarray(GRAY // 2)))
    elif mode == "RGBA":
        image = Image.merge("RGBA", (image, image, image, Image.fromarray(GRAY // 2)))
    else:
        image = image.convert(mode)
    expected = np.asarray(image.convert("L")) if mode == "1" else GRAY
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_gray_image(tmp_path / "a.png"), expected)


def test_images_that_cannot_be_gray_levels_are_errors(tmp_path: Path):
    Image.fromarray(GRAY.astype(np.float32) / 255).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"expected unsigned samples of 8 or 16 bits, got float32 from 0 to 1"):
        read_gray_image(tmp_path / "a.tif")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(DataError, match="not readable as an image"):
        read_gray_image(tmp_path / "empty.png")


@pytest.mark.parametrize("ending", ["png", "bmp", "jpg", "tif"])
def test_a_header_of_too_many_pixels_is_refused_before_decoding(tmp_path: Path, ending: str):
    path = tmp_path / f"a.{ending}"
    cv2.imwrite(str(path), GRAY)
    content = bytearray(path.read_bytes())
    if ending == "png":
        content[16:24] = struct.pack(">II", 20_000, 20_000)
    elif ending == "bmp":
        content[18:26] = struct.pack("<ii", 20_000, -20_000)
    elif ending == "jpg":
        at = content.find(b"\xff\xc0")
        content[at + 5 : at + 9] = struct.pack(">HH", 20_000, 20_000)
    else:
        for tag in (256, 257):
            at = content.find(struct.pack("<H", tag) + b"\x03\0\1\0\0\0")
            content[at + 8 : at + 10] = struct.pack("<H", 20_000)
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"expected at most 64,000,000 pixels, got 20000 x 20000"):
        read_gray_image(path)


def test_prediction_and_import_read_alike(tmp_path: Path):
    source = tmp_path / "set"
    source.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GRAY).save(source / "turned.png", exif=exif)
    Image.fromarray(GRAY.astype(np.uint16) * 16).save(source / "deep.png")
    (source / "a.csv").write_text("Image_name,Patient_num,Plane\nturned,1,Fetal femur\ndeep,2,Fetal femur\n")
    import_fetal_planes(source, tmp_path / "archive")
    for patient, name in (("1", "turned"), ("2", "deep")):
        (video,) = (tmp_path / "archive" / patient).glob("*.mkv")
        ((_, imported),) = iter_gray_frames(video)
        image = read_gray_image(source / f"{name}.png")
        np.testing.assert_array_equal(imported, np.rint(image))
        height, width = image.shape
        frame = read_image_frame(source / f"{name}.png", 64, Box(0, 0, width, height))
        np.testing.assert_array_equal(frame, cv2.resize(imported, (64, 64), interpolation=cv2.INTER_AREA))
