"""Multi-frame DICOM as gray frames on the scan clock, one frame in memory at a time."""

import logging
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import as_pixel_options

from usvs.errors import DataError
from usvs.media.dicom_file import DicomFile
from usvs.media.dicom_header import dicom_patient, dicom_region, dicom_seconds, picture_size
from usvs.media.grayscale import as_shown, expand_limited
from usvs.media.timing import Timing
from usvs.media.video_info import Decoded, VideoInfo

# what is wrong with a frame is counted here; the plugins would print it with tracebacks as well
for _name in ("pydicom", "openjpeg"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", module="pydicom")  # they quote the file's values

Pixels = NDArray[Any]
PREFERRED = ("pillow", "pyjpegls", "pylibjpeg", "pydicom")  # gdcm reads all, at a sixth of pillow's speed


def probe_dicom(dicom: DicomFile) -> VideoInfo:
    """Read what a DICOM file of single pictures holds; times and region are its own tags'.

    Raises:
        DataError: where it breaks off, or needs a decoder that is not installed.
    """
    _decoder(dicom)
    width, height, aspect = picture_size(dicom.header)
    count, there = _frame_count(dicom)
    seconds, note = dicom_seconds(dicom.header, count)
    return VideoInfo(
        container="dicom",
        video_codec=dicom.syntax.name,
        width=width,
        height=height,
        timing=Timing.of_frames(seconds, note),
        audio_codec=None,
        audio_rate_hz=None,
        audio_channels=None,
        pixel_aspect=aspect,
        region=dicom_region(dicom.header, aspect),
        file_note=f"the header announces {count} frames, {there} are there; the first {count} are read"
        if there > count
        else None,
        patient=dicom_patient(dicom.header),
    )


def iter_dicom_frames(
    dicom: DicomFile, info: VideoInfo, decoded: Decoded, numbers: NDArray[np.int64] | None = None
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield frames in order: seconds on the scan clock, full-range gray [H, W]; what cannot be decoded is counted.

    Args:
        dicom: the opened file.
        info: of the same file.
        decoded: is kept up to date.
        numbers: of the frames expected, rising; None: all.
    """
    expected = None if numbers is None else set(numbers.tolist())
    for number, frame in enumerate(
        _native(dicom, expected) if dicom.value_length is not None else _coded(dicom, expected)
    ):
        if expected is not None and number not in expected:
            continue
        if frame is None:
            decoded.damaged_packets += 1
            continue
        decoded.frames += 1
        gray = dicom_gray(*frame, dicom)
        yield float(info.timing.seconds[number]), as_shown(gray, 0, info.pixel_aspect)


def dicom_gray(pixels: Pixels, properties: dict[str, Any], dicom: DicomFile) -> NDArray[np.uint8]:
    """Return decoded pixels [H, W] or [H, W, 3] as gray [H, W]; luma is taken as it is, never made from RGB twice.

    Source: DICOM PS3.3 C.7.6.3.1.2 (photometric interpretation).
    """
    kind = str(properties["photometric_interpretation"])
    if kind.startswith("MONOCHROME"):
        gray = _eight_bits(pixels, dicom)
        return 255 - gray if kind == "MONOCHROME1" else gray
    if kind == "PALETTE COLOR":
        return _palette(dicom, int(pixels.max()) + 1)[pixels]
    if pixels.ndim == 3 and pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
        pixels = (pixels >> max(int(dicom.header.BitsStored) - 8, 0)).astype(np.uint8)
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise DataError(f"DICOM pictures of {kind} with {pixels.dtype} samples are not read")
    if kind == "RGB":
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    if not kind.startswith("YBR"):
        raise DataError(f"DICOM pictures of {kind} are not read")
    luma = np.ascontiguousarray(pixels[..., 0])
    return expand_limited(luma) if kind.startswith("YBR_PARTIAL") else luma


def _palette(dicom: DicomFile, entries: int) -> NDArray[np.uint8]:
    colours = apply_color_lut(np.arange(max(entries, 256), dtype=np.uint16), dicom.header)
    eight = colours >> 8 if colours.max() > 255 else colours  # some writers leave the upper byte empty
    gray: NDArray[np.uint8] = cv2.cvtColor(eight.astype(np.uint8)[None], cv2.COLOR_RGB2GRAY)[0]
    return gray


def _eight_bits(pixels: Pixels, dicom: DicomFile) -> NDArray[np.uint8]:
    header = dicom.header
    if pixels.dtype == np.uint8 and header.BitsStored == 8:
        return pixels  # as it was shown; a window on top is the viewer's choice
    centre, width = (_first_number(header.get(name)) for name in ("WindowCenter", "WindowWidth"))
    values: Pixels = pixels
    if centre is not None and width is not None and width >= 1:  # a narrower one is against PS3.3 C.11.2.1.2
        values = pixels * float(header.get("RescaleSlope") or 1) + float(header.get("RescaleIntercept") or 0)
        low, span = centre - 0.5 - (width - 1) / 2, max(width - 1, 1.0)
    else:  # the stored range is that of the stored values
        signed = int(header.get("PixelRepresentation") or 0)
        low, span = -float(2 ** (header.BitsStored - 1)) * signed, float(2**header.BitsStored - 1)
    return np.clip(np.round((values - low) * (255.0 / span)), 0, 255).astype(np.uint8)


def _first_number(value: Any) -> float | None:
    return None if value in (None, "") else float(np.atleast_1d(value)[0])


def _frame_count(dicom: DicomFile) -> tuple[int, int]:
    """Return how many frames the header announces and how many are there, as far as that can be told."""
    try:
        stated = int(dicom.header.get("NumberOfFrames") or 1)
    except ValueError:
        raise DataError("the DICOM header gives no whole number of frames") from None
    if dicom.value_length is None:
        if len(dicom.fragments) < stated:
            raise DataError(f"truncated: the header announces {stated} frames, {len(dicom.fragments)} are there")
        return stated, stated  # a frame may be in several pieces
    header = dicom.header
    samples = 2 if header.get("PhotometricInterpretation") == "YBR_FULL_422" else header.SamplesPerPixel
    frame = header.Rows * header.Columns * samples * header.BitsAllocated // 8
    there = min(dicom.value_length, dicom.path.stat().st_size - dicom.value_at) // max(frame, 1)
    if there < stated:
        raise DataError(f"truncated: the header announces {stated} frames, {there} are there")
    return stated, there


def _native(dicom: DicomFile, expected: set[int] | None) -> Iterator[tuple[Pixels, dict[str, Any]] | None]:
    options, decoder = _options(dicom), _decoder(dicom)
    with dicom.path.open("rb") as file:
        for number in range(options["number_of_frames"]):
            if expected is not None and number not in expected:
                yield None
                continue
            file.seek(dicom.value_at)
            try:
                yield decoder.as_array(file, index=number, raw=True, validate=number == 0, **options)
            except Exception as error:  # pydicom checks what the header says of the pixels only now
                raise DataError(f"the DICOM header contradicts itself ({type(error).__name__})") from None


def _coded(dicom: DicomFile, expected: set[int] | None) -> Iterator[tuple[Pixels, dict[str, Any]] | None]:
    options, decoder = _options(dicom), _decoder(dicom)
    count, table = options["number_of_frames"], options.pop("extended_offsets", None)
    one = options | {"number_of_frames": 1}
    with dicom.path.open("rb") as file:
        file.seek(dicom.value_at)
        for number, content in enumerate(_frame_contents(file, count, table)):
            if number == count:
                return
            if expected is not None and number not in expected:
                yield None
                continue
            yield _picture(decoder, content, one)


def _frame_contents(file: BinaryIO, count: int, table: Any) -> Iterator[bytes]:
    try:
        yield from generate_frames(file, number_of_frames=count, extended_offsets=table)
    except Exception as error:  # offsets that lead nowhere, as ValueError, struct.error and others
        raise DataError(f"the DICOM's frames cannot be told apart ({type(error).__name__})") from None


def _picture(decoder: Any, content: bytes, options: dict[str, Any]) -> tuple[Pixels, dict[str, Any]] | None:
    plugins = [name for name in PREFERRED if name in decoder.available_plugins]
    # "" tries all that are installed, gdcm among them: it alone reads the rest, and it can abort over damage
    for plugin in plugins if plugins and options["bits_stored"] <= 8 else [*plugins, ""]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                decoded: tuple[Pixels, dict[str, Any]] = decoder.as_array(
                    encapsulate([content]), index=0, raw=True, decoding_plugin=plugin, **options
                )
                return decoded
        except Exception:  # each of pydicom's plugins raises kinds of its own
            continue
    return None


def _options(dicom: DicomFile) -> dict[str, Any]:
    return as_pixel_options(
        dicom.header, transfer_syntax_uid=dicom.syntax, pixel_keyword="PixelData", pixel_vr=dicom.value_vr
    )


def _decoder(dicom: DicomFile) -> Any:
    try:
        decoder = get_decoder(dicom.syntax)
    except NotImplementedError:
        raise DataError("the DICOM's transfer syntax is not read") from None
    if not decoder.is_available:
        raise DataError(f"no decoder for DICOM with {dicom.syntax.name} is installed: pip install 'usvs[dicom]'")
    return decoder
