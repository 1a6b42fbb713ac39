"""Multi-frame DICOM as gray frames on the scan clock, one frame in memory at a time."""

from collections.abc import Iterator
from typing import Any, BinaryIO, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import as_pixel_options

from usvs.errors import DataError
from usvs.media.dicom_file import DicomFile
from usvs.media.dicom_header import read_frame_seconds, read_image_size, read_patient_id, read_region
from usvs.media.grayscale import expand_limited_range, orient_for_display
from usvs.media.quiet_pydicom import quiet_pydicom
from usvs.media.timing import Timing
from usvs.media.video_info import VideoDecodeStats, VideoInfo
from usvs.utils.regular_files import open_regular

Pixels: TypeAlias = NDArray[Any]
DecodedFrame: TypeAlias = tuple[Pixels, dict[str, Any]]  # pixels and the properties that pydicom gives for them

# pydicom's optional decoding plugins in order of preference; gdcm reads everything, at a sixth of pillow's speed
PLUGINS = ("pillow", "pyjpegls", "pylibjpeg", "pydicom")


@quiet_pydicom()
def read_dicom_info(dicom: DicomFile) -> VideoInfo:
    """Read the properties of a DICOM file that holds one image per frame.

    Raises:
        DataError: if the file is truncated, or needs a decoder that is not installed.
    """
    _get_decoder(dicom)
    width, height, pixel_aspect = read_image_size(dicom.header)
    stated_frames, stored_frames = _count_frames(dicom)
    seconds, note = read_frame_seconds(dicom.header, stated_frames)
    has_more = stored_frames > stated_frames
    return VideoInfo(
        container="dicom",
        video_codec=dicom.syntax.name,
        width=width,
        height=height,
        timing=Timing.from_seconds(seconds, note),
        audio_codec=None,
        audio_rate_hz=None,
        audio_channels=None,
        pixel_aspect=pixel_aspect,
        region=read_region(dicom.header, pixel_aspect),
        file_note=f"the header states {stated_frames} frames, the file holds {stored_frames}: "
        f"the first {stated_frames} are read"
        if has_more
        else None,
        patient=read_patient_id(dicom.header),
    )


def iter_dicom_frames(
    dicom: DicomFile, info: VideoInfo, stats: VideoDecodeStats, indices: NDArray[np.int64] | None = None
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield frames in order: time in seconds and full-range gray image [H, W]; one that cannot be decoded is counted.

    Args:
        dicom: the opened file.
        info: of the same file.
        stats: updated with what was decoded.
        indices: frames to read, increasing; None: all.
    """
    selected = None if indices is None else set(indices.tolist())
    is_encapsulated = dicom.value_length is None
    frames = _iter_encapsulated(dicom, selected) if is_encapsulated else _iter_uncompressed(dicom, selected)
    for index, frame in enumerate(frames):
        if selected is not None and index not in selected:
            continue
        if frame is None:
            stats.damaged_packets += 1
            continue
        stats.frames += 1
        gray = convert_dicom_to_gray(*frame, dicom)
        yield float(info.timing.seconds[index]), orient_for_display(gray, 0, info.pixel_aspect)


@quiet_pydicom()
def convert_dicom_to_gray(pixels: Pixels, properties: dict[str, Any], dicom: DicomFile) -> NDArray[np.uint8]:
    """Return decoded pixels [H, W] or [H, W, 3] as gray [H, W]; luma is used as stored, without a detour over RGB.

    Source: DICOM PS3.3 C.7.6.3.1.2 (photometric interpretation).
    """
    photometric = str(properties["photometric_interpretation"])
    if photometric.startswith("MONOCHROME"):
        gray = _scale_to_8_bits(pixels, dicom)
        return 255 - gray if photometric == "MONOCHROME1" else gray
    if photometric == "PALETTE COLOR":
        return _read_gray_palette(dicom, int(pixels.max()) + 1)[pixels]
    if pixels.ndim == 3 and pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
        pixels = (pixels >> max(int(dicom.header.BitsStored) - 8, 0)).astype(np.uint8)
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise DataError(f"DICOM images of {photometric} with {pixels.dtype} samples are not supported")
    if photometric == "RGB":
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    if not photometric.startswith("YBR"):
        raise DataError(f"DICOM images of {photometric} are not supported")
    luma = np.ascontiguousarray(pixels[..., 0])
    return expand_limited_range(luma) if photometric.startswith("YBR_PARTIAL") else luma


def _read_gray_palette(dicom: DicomFile, entries: int) -> NDArray[np.uint8]:
    colours = apply_color_lut(np.arange(max(entries, 256), dtype=np.uint16), dicom.header)
    colours = colours >> 8 if colours.max() > 255 else colours  # some writers leave the upper byte empty
    gray: NDArray[np.uint8] = cv2.cvtColor(colours.astype(np.uint8)[None], cv2.COLOR_RGB2GRAY)[0]
    return gray


def _scale_to_8_bits(pixels: Pixels, dicom: DicomFile) -> NDArray[np.uint8]:
    header = dicom.header
    if pixels.dtype == np.uint8 and header.BitsStored == 8:
        return pixels  # as the scanner displayed it; a window would be the viewer's choice
    centre, width = (_first_number(header.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    values: Pixels = pixels
    if centre is not None and width is not None and width >= 1:  # PS3.3 C.11.2.1.2: not less than 1
        values = pixels * float(header.get("RescaleSlope") or 1) + float(header.get("RescaleIntercept") or 0)
        low, span = centre - 0.5 - (width - 1) / 2, max(width - 1, 1.0)
    else:  # the range of the stored values
        is_signed = int(header.get("PixelRepresentation") or 0)
        low, span = -float(2 ** (header.BitsStored - 1)) * is_signed, float(2**header.BitsStored - 1)
    return np.clip(np.round((values - low) * (255.0 / span)), 0, 255).astype(np.uint8)


def _first_number(value: Any) -> float | None:
    return None if value in (None, "") else float(np.atleast_1d(value)[0])


def _count_frames(dicom: DicomFile) -> tuple[int, int]:
    """Return the number of frames that the header states, and the number that the file holds as far as is known."""
    try:
        stated = int(dicom.header.get("NumberOfFrames") or 1)
    except ValueError:
        raise DataError("NumberOfFrames in the DICOM header is not an integer") from None
    if dicom.value_length is None:
        fragments = len(dicom.fragments)
        if fragments < stated:
            raise DataError(f"truncated: expected {stated} frames as stated in the header, got {fragments}")
        return stated, stated  # a frame may consist of several fragments
    header = dicom.header
    samples = 2 if header.get("PhotometricInterpretation") == "YBR_FULL_422" else header.SamplesPerPixel
    frame_bytes = header.Rows * header.Columns * samples * header.BitsAllocated // 8
    stored_bytes = min(dicom.value_length, dicom.path.stat().st_size - dicom.value_position)
    stored = stored_bytes // max(frame_bytes, 1)
    if stored < stated:
        raise DataError(f"truncated: expected {stated} frames as stated in the header, got {stored}")
    return stated, stored


def _iter_uncompressed(dicom: DicomFile, selected: set[int] | None) -> Iterator[DecodedFrame | None]:
    options, decoder = _pixel_options(dicom), _get_decoder(dicom)
    with open_regular(dicom.path) as file:
        for index in range(options["number_of_frames"]):
            if selected is not None and index not in selected:
                yield None
                continue
            file.seek(dicom.value_position)
            try:
                with quiet_pydicom():
                    frame = decoder.as_array(file, index=index, raw=True, validate=index == 0, **options)
            except Exception as error:  # pydicom checks the header's statements on pixels only here
                raise DataError(f"the DICOM header contradicts itself ({type(error).__name__})") from None
            yield frame


def _iter_encapsulated(dicom: DicomFile, selected: set[int] | None) -> Iterator[DecodedFrame | None]:
    options, decoder = _pixel_options(dicom), _get_decoder(dicom)
    count, offset_table = options["number_of_frames"], options.pop("extended_offsets", None)
    frame_options = options | {"number_of_frames": 1}
    with open_regular(dicom.path) as file:
        file.seek(dicom.value_position)
        for index, content in enumerate(_iter_frame_contents(file, count, offset_table)):
            if index == count:
                return
            if selected is not None and index not in selected:
                yield None
                continue
            yield _decode_frame(decoder, content, frame_options)


def _iter_frame_contents(file: BinaryIO, count: int, offset_table: Any) -> Iterator[bytes]:
    frames = generate_frames(file, number_of_frames=count, extended_offsets=offset_table)
    while True:
        try:
            with quiet_pydicom():
                content = next(frames, None)
        except Exception as error:  # invalid offsets: ValueError, struct.error and others
            raise DataError(f"the DICOM's frames cannot be separated ({type(error).__name__})") from None
        if content is None:
            return
        yield content


@quiet_pydicom()
def _decode_frame(decoder: Any, content: bytes, options: dict[str, Any]) -> DecodedFrame | None:
    plugins = [name for name in PLUGINS if name in decoder.available_plugins]
    # "" tries every installed plugin, gdcm among them. Only gdcm reads the rest, but damage can make it abort the
    # process: so it is used only if no other plugin is installed, or for more than 8 bits.
    for plugin in plugins if plugins and options["bits_stored"] <= 8 else [*plugins, ""]:
        try:
            frame: DecodedFrame = decoder.as_array(
                encapsulate([content]), index=0, raw=True, decoding_plugin=plugin, **options
            )
            return frame
        except Exception:  # each plugin raises types of its own
            continue
    return None


@quiet_pydicom()
def _pixel_options(dicom: DicomFile) -> dict[str, Any]:
    return as_pixel_options(
        dicom.header, transfer_syntax_uid=dicom.syntax, pixel_keyword="PixelData", pixel_vr=dicom.value_vr
    )


def _get_decoder(dicom: DicomFile) -> Any:
    try:
        decoder = get_decoder(dicom.syntax)
    except NotImplementedError:
        raise DataError("the DICOM's transfer syntax is not supported") from None
    if not decoder.is_available:
        raise DataError(f"no decoder for DICOM with {dicom.syntax.name} is installed: pip install 'usvs[dicom]'")
    return decoder
