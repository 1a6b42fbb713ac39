"""The one reader of still images: depth, orientation, palette, transparency and limits."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.tiff_files import tiff_bytes
from usvs.archive.importers.fetal_planes import import_fetal_planes
from usvs.errors import DataError
from usvs.inference.frames import read_image_frame
from usvs.media.box import Box
from usvs.media.images import read_gray_image
from usvs.media.video import iter_gray_frames, read_video_info

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


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("alpha", [0, 1, 2])
@pytest.mark.parametrize("bits", [8, 16])
def test_colours_of_a_tiff_are_those_without_its_alpha(
    tmp_path: Path, bits: int, alpha: int, order: str, is_planar: bool, orientation: int
):
    """OpenCV multiplies 8 bits by an alpha that is stated as one; other writers store colours multiplied (1)."""
    full = 2**bits - 1
    opaque = np.full(GRAY.shape, full)
    opaque[:, 80:] = full // 2
    shown = np.round(GRAY * (full / 255))
    stored = np.round(shown * (opaque / full)) if alpha == 1 else shown
    planes = [plane.astype(np.uint8 if bits == 8 else np.uint16) for plane in (stored, stored, stored, opaque)]
    tags = {284: [2 if is_planar else 1], 338: [alpha], 274: [orientation]}
    (tmp_path / "a.tif").write_bytes(tiff_bytes(planes, tags, order))
    if is_planar and bits == 16:  # OpenCV returns the first plane's samples as if they were pixels
        with pytest.raises(DataError, match=r"'.*a\.tif': expected the samples of a pixel side by side"):
            read_gray_image(tmp_path / "a.tif")
        return
    expected = np.rot90(GRAY, -1) if orientation == 6 else GRAY
    np.testing.assert_allclose(read_gray_image(tmp_path / "a.tif"), expected, atol=1 if alpha == 1 else 0.01)


@pytest.mark.parametrize("alpha", [0, 1, 2])
def test_gray_levels_beside_an_alpha(tmp_path: Path, alpha: int):
    (tmp_path / "a.tif").write_bytes(tiff_bytes([GRAY, GRAY // 2], {338: [alpha]}))
    if alpha == 1:
        with pytest.raises(DataError, match=r"'.*a\.tif': expected gray levels that are not multiplied by the alpha"):
            read_gray_image(tmp_path / "a.tif")
        return
    np.testing.assert_array_equal(read_gray_image(tmp_path / "a.tif"), GRAY)


@pytest.mark.parametrize("largest", [255, 4095, 65535])
@pytest.mark.parametrize("is_white_zero", [False, True])
def test_zero_may_be_white_in_a_tiff_of_any_depth(tmp_path: Path, largest: int, is_white_zero: bool):
    deep = np.round(GRAY * (largest / 255)).astype(np.uint16)
    deep[0, :2] = 0, largest
    stored = (largest - deep).astype(np.uint16) if is_white_zero else deep
    (tmp_path / "a.tif").write_bytes(tiff_bytes([stored], {262: [0 if is_white_zero else 1]}))
    np.testing.assert_allclose(read_gray_image(tmp_path / "a.tif")[1:], GRAY[1:], atol=0.6)


def test_pages_of_a_tiff_are_not_dropped(tmp_path: Path):
    pages = [Image.fromarray(GRAY), Image.fromarray(255 - GRAY)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"'.*a\.tif': expected one picture, got 2 pages"):
        read_gray_image(tmp_path / "a.tif")
    pages[1].encoderinfo = {"tiffinfo": {254: 1}}  # a thumbnail
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_gray_image(tmp_path / "a.tif"), GRAY)


@pytest.mark.parametrize("is_apart", [False, True])
def test_frames_of_an_animated_png_are_not_dropped(tmp_path: Path, is_apart: bool):
    frames = [Image.fromarray(np.roll(GRAY, 9 * number, axis=1)) for number in range(4)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], default_image=is_apart)
    with pytest.raises(DataError, match=r"'.*a\.png': expected one picture, got 4 \(animation"):
        read_gray_image(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"^expected one picture, got 4"):
        read_video_info(tmp_path / "a.png")
    frames[0].save(tmp_path / "a.png", save_all=True)
    np.testing.assert_array_equal(read_gray_image(tmp_path / "a.png"), GRAY)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_pictures_in_a_row_are_not_dropped(tmp_path: Path, ending: str):
    content = cv2.imencode(f".{ending}", GRAY)[1].tobytes()
    (tmp_path / f"a.{ending}").write_bytes(content * 3)
    with pytest.raises(DataError, match=r"expected one picture, got 3 .*files in a row"):
        read_gray_image(tmp_path / f"a.{ending}")


def test_a_preview_beside_the_picture_of_a_camera_is_no_second_picture(tmp_path: Path):
    pictures = [Image.fromarray(GRAY), Image.fromarray(255 - GRAY)]
    pictures[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=pictures[1:])
    np.testing.assert_allclose(read_gray_image(tmp_path / "a.jpg"), GRAY, atol=20)
    inside = cv2.imencode(".jpg", GRAY)[1].tobytes()
    segment = b"\xff\xe1" + struct.pack(">H", 2 + 6 + 2 * len(inside)) + b"Exif\0\0" + inside * 2
    (tmp_path / "b.jpg").write_bytes(inside[:2] + segment + inside[2:])
    np.testing.assert_allclose(read_gray_image(tmp_path / "b.jpg"), GRAY, atol=20)


def test_directories_of_a_tiff_that_lead_back_end(tmp_path: Path):
    content = bytearray(tiff_bytes([GRAY]))
    content[-4:] = content[4:8]
    (tmp_path / "a.tif").write_bytes(bytes(content))
    with pytest.raises(DataError, match="got 4096 pages"):
        read_gray_image(tmp_path / "a.tif")


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize("kept", [8, 0.6])
def test_a_picture_that_is_cut_off_is_refused(tmp_path: Path, ending: str, kept: float):
    path = tmp_path / f"a.{ending}"
    cv2.imwrite(str(path), GRAY)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.raises(DataError, match=r"image '.*': not readable as an image"):
        read_gray_image(path)


@pytest.mark.parametrize("ending", ["webp", "jp2", "pgm"])
def test_another_format_under_the_name_of_a_picture_is_refused(tmp_path: Path, ending: str):
    """OpenCV decodes them whatever the name says, and whatever size they state."""
    cv2.imwrite(str(tmp_path / f"a.{ending}"), GRAY)
    (tmp_path / f"a.{ending}").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"expected a PNG, JPEG, BMP or TIFF, got a file that begins with b'"):
        read_gray_image(tmp_path / "a.png")


def test_a_bmp_with_the_older_header(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "a.bmp"), np.repeat(GRAY[..., None], 3, axis=2))
    content = (tmp_path / "a.bmp").read_bytes()
    pixels = content[int.from_bytes(content[10:14], "little") :]
    head = struct.pack("<2sIHHI", b"BM", 26 + len(pixels), 0, 0, 26) + struct.pack("<IHHHH", 12, 160, 120, 1, 24)
    (tmp_path / "a.bmp").write_bytes(head + pixels)
    np.testing.assert_array_equal(read_gray_image(tmp_path / "a.bmp"), GRAY)


def test_images_that_cannot_be_gray_levels_are_errors(tmp_path: Path):
    Image.fromarray(GRAY.astype(np.float32) / 255).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"expected unsigned samples of 8 or 16 bits, got float32 from 0 to 1"):
        read_gray_image(tmp_path / "a.tif")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(DataError, match="expected a PNG, JPEG, BMP or TIFF, got a file that begins with b''"):
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
