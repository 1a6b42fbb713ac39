"""Frame times, image size, ultrasound region and patient id from a DICOM header."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from usvs.errors import DataError
from usvs.media.box import Box
from usvs.media.grayscale import compute_display_size
from usvs.media.timing import FALLBACK_RATE_HZ

# PS3.3 C.8.5.5.1: spatial format 1 is two-dimensional; data types 1 (tissue) and 2 (colour flow) show anatomy
TWO_DIMENSIONAL_FORMAT, ANATOMY_DATA_TYPES = 1, (1, 2)
FRAME_TIME_TAG = 0x00181063
RATE_KEYWORDS = ("CineRate", "RecommendedDisplayFrameRate")
REQUIRED_KEYWORDS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PhotometricInterpretation")


def read_frame_seconds(header: Dataset, count: int) -> tuple[NDArray[np.float64], str | None]:
    """Return frame times on the scan clock [count], and a note if they are not the file's own.

    The element that FrameIncrementPointer names takes precedence, then FrameTimeVector, FrameTime, CineRate and
    RecommendedDisplayFrameRate (PS3.3 C.7.6.5, C.7.6.6).
    """
    pointer = header.get("FrameIncrementPointer")
    vector_seconds = _parse_frame_time_vector(header.get("FrameTimeVector"), count)
    frame_time_ms = _parse_positive(header.get("FrameTime"))
    if vector_seconds is not None and not (pointer == FRAME_TIME_TAG and frame_time_ms):
        return vector_seconds, None
    mismatch = "FrameTimeVector does not fit the number of frames: {} is used" if "FrameTimeVector" in header else None
    if frame_time_ms:
        note = mismatch and mismatch.format("FrameTime")
        seconds = np.arange(count, dtype=np.float64) * (frame_time_ms / 1000)
        return seconds, None if pointer == FRAME_TIME_TAG else note
    for keyword in RATE_KEYWORDS:
        rate_hz = _parse_positive(header.get(keyword))
        if rate_hz:
            return np.arange(count) / rate_hz, mismatch and mismatch.format(keyword)
    note = None if count == 1 else f"no frame time in the DICOM: {FALLBACK_RATE_HZ:g} frames per second are assumed"
    return np.arange(count) / FALLBACK_RATE_HZ, note


def read_region(header: Dataset, pixel_aspect: float = 1.0) -> Box | None:
    """Return the largest region of two-dimensional anatomy that the header states, in pixels of the display size.

    Source: SequenceOfUltrasoundRegions, PS3.3 C.8.5.5.1; its maxima are inclusive.
    """
    width, height = int(header.get("Columns") or 0), int(header.get("Rows") or 0)
    regions: list[Box] = []
    for item in header.get("SequenceOfUltrasoundRegions") or ():
        if int(item.get("RegionSpatialFormat") or 0) != TWO_DIMENSIONAL_FORMAT:
            continue
        if int(item.get("RegionDataType") or 0) not in ANATOMY_DATA_TYPES:
            continue
        sides = [item.get(f"RegionLocation{side}") for side in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        if any(side is None for side in sides):
            continue
        left, top, right, bottom = (int(side) for side in sides)
        # a region that exceeds the image was stated for an image of another size: it is ignored
        if 0 <= left < right <= width and 0 <= top < bottom <= height:
            right, bottom = min(right + 1, width), min(bottom + 1, height)
            regions.append(Box(round(left * pixel_aspect), top, round(right * pixel_aspect), bottom))
    return max(regions, key=lambda box: box.width * box.height, default=None)


def read_patient_id(header: Dataset) -> str | None:
    """Return the file's PatientID, None if it is empty; it may be a placeholder of de-identification.

    It is private: it may be passed to `usvs.store.patient_groups.hash_patient_id` and to nothing else.
    """
    return str(header.get("PatientID") or "").strip(" \0") or None


def read_image_size(header: Dataset) -> tuple[int, int, float]:
    """Return the display width and height in pixels, and the pixel aspect (width over height).

    Raises:
        DataError: if the header does not describe an image.
    """
    missing = [keyword for keyword in REQUIRED_KEYWORDS if header.get(keyword) in (None, "", 0)]
    if missing:
        raise DataError(f"the DICOM header has no {missing[0]}")
    aspect = header.get("PixelAspectRatio")  # vertical over horizontal size, as two integers
    pixel_aspect = 1.0
    if isinstance(aspect, MultiValue) and len(aspect) == 2 and all(float(part) > 0 for part in aspect):
        pixel_aspect = float(aspect[1]) / float(aspect[0])
    width, height = compute_display_size(int(header.Columns), int(header.Rows), 0, pixel_aspect)
    return width, height, pixel_aspect


def _parse_frame_time_vector(vector: Any, count: int) -> NDArray[np.float64] | None:
    if vector is None:
        return None
    steps_ms = np.atleast_1d(np.asarray(vector, np.float64))
    if len(steps_ms) == count - 1:
        steps_ms = np.concatenate([[0.0], steps_ms])  # some writers omit the 0 of the first frame
    if len(steps_ms) != count or not (steps_ms[1:] > 0).all():
        return None
    steps_ms[0] = 0.0
    return np.cumsum(steps_ms) / 1000


def _parse_positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None
