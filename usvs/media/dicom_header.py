"""Frame times, image size, ultrasound region and patient id from a DICOM header."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from usvs.errors import DataError
from usvs.media.box import Box
from usvs.media.dicom_correction import get_optional
from usvs.media.grayscale import compute_display_size
from usvs.media.limits import check_frame_size
from usvs.media.timing import FALLBACK_RATE_HZ

# PS3.3 C.8.5.5.1: spatial format 1 is two-dimensional; data types 1 (tissue) and 2 (colour flow) show anatomy
TWO_DIMENSIONAL_FORMAT, ANATOMY_DATA_TYPES = 1, (1, 2)
FRAME_TIME_TAG = 0x00181063
POSSIBLE_RATES_HZ = (0.1, 1000.0)  # of a cine, with a wide margin
MAX_STEP_SECONDS = 600.0  # between two frames of a cine
RATE_KEYWORDS = ("CineRate", "RecommendedDisplayFrameRate")
REQUIRED_KEYWORDS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PhotometricInterpretation")


def read_frame_seconds(header: Dataset, count: int) -> tuple[NDArray[np.float64], str | None]:
    """Return frame times on the scan clock [count], and a note if they are not the file's own.

    The element that FrameIncrementPointer names takes precedence, then FrameTimeVector, FrameTime, CineRate and
    RecommendedDisplayFrameRate (PS3.3 C.7.6.5, C.7.6.6). A time that no scanner has (`POSSIBLE_RATES_HZ`) is left out;
    if no other element is left, it is read in the unit that makes it possible, with a note.
    """
    vector_seconds = _parse_frame_time_vector(get_optional(header, "FrameTimeVector"), count)
    frame_time_ms = _parse_positive(get_optional(header, "FrameTime"))
    has_vector, is_pointed = (
        "FrameTimeVector" in header,
        get_optional(header, "FrameIncrementPointer") == FRAME_TIME_TAG,
    )
    candidates: list[tuple[str, NDArray[np.float64]]] = []
    if vector_seconds is not None:
        candidates.append(("FrameTimeVector", vector_seconds))
    if frame_time_ms:
        candidates.insert(
            0 if is_pointed else 1, ("FrameTime", np.arange(count, dtype=np.float64) * (frame_time_ms / 1000))
        )
    for keyword in RATE_KEYWORDS:
        rate_hz = _parse_positive(get_optional(header, keyword))
        if rate_hz:
            candidates.append((keyword, np.arange(count) / rate_hz))
    notes = []
    for keyword, seconds in candidates:
        if _is_possible(seconds):
            if has_vector and vector_seconds is None and not (keyword == "FrameTime" and is_pointed):
                notes.append(f"FrameTimeVector does not fit the number of frames: {keyword} is used")
            elif notes:
                notes.append(f"{keyword} is used")
            return seconds, "; ".join(notes) or None
        step_ms = 1000 * _wrong_step(seconds)
        notes.append(
            f"{keyword} states {step_ms:.4g} ms, {1000 / step_ms:,.5g} frames per second, which is not possible"
        )
    for keyword, seconds in candidates:
        if keyword in RATE_KEYWORDS:
            continue
        for unit, scale in (("seconds", 1000.0), ("microseconds", 0.001)):
            if _is_possible(seconds * scale):
                return seconds * scale, "; ".join([*notes, f"taken as {unit}"])
    if count > 1:
        notes.append(f"no frame time in the DICOM: {FALLBACK_RATE_HZ:g} frames per second are assumed")
    return np.arange(count) / FALLBACK_RATE_HZ, "; ".join(notes) or None


def _wrong_step(seconds: NDArray[np.float64]) -> float:
    """Return the median time between two frames, or the longest where that is the one that is not possible."""
    steps = np.diff(seconds)
    median, longest = float(np.median(steps)), float(steps.max())
    return longest if _is_possible_rate(median) else median


def _is_possible_rate(step_seconds: float) -> bool:
    slowest, fastest = POSSIBLE_RATES_HZ
    return 1 / fastest <= step_seconds <= 1 / slowest


def _is_possible(seconds: NDArray[np.float64]) -> bool:
    steps = np.diff(seconds)
    return len(steps) == 0 or (_is_possible_rate(float(np.median(steps))) and float(steps.max()) <= MAX_STEP_SECONDS)


def read_region(header: Dataset, pixel_aspect: float = 1.0) -> Box | None:
    """Return the largest region of two-dimensional anatomy that the header states, in pixels of the display size.

    Source: SequenceOfUltrasoundRegions, PS3.3 C.8.5.5.1; its maxima are inclusive.
    """
    try:
        return _read_region(header, pixel_aspect)
    except Exception:  # pydicom converts values on access, with errors of many types; without it the sector is detected
        return None


def _read_region(header: Dataset, pixel_aspect: float) -> Box | None:
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
    return str(get_optional(header, "PatientID") or "").strip(" \0") or None


def read_image_size(header: Dataset) -> tuple[int, int, float]:
    """Return the display width and height in pixels, and the pixel aspect (width over height).

    Raises:
        DataError: if the header does not describe an image.
    """
    missing = [keyword for keyword in REQUIRED_KEYWORDS if get_optional(header, keyword) in (None, "", 0)]
    if missing:
        raise DataError(f"the DICOM header has no {missing[0]}")
    aspect = get_optional(header, "PixelAspectRatio")  # vertical over horizontal size, as two integers
    parts = [_parse_positive(part) for part in aspect] if isinstance(aspect, MultiValue) else []
    pixel_aspect = parts[1] / parts[0] if len(parts) == 2 and parts[0] and parts[1] else 1.0
    check_frame_size(int(header.Columns), int(header.Rows), pixel_aspect)
    width, height = compute_display_size(int(header.Columns), int(header.Rows), 0, pixel_aspect)
    return width, height, pixel_aspect


def _parse_frame_time_vector(vector: Any, count: int) -> NDArray[np.float64] | None:
    if vector is None:
        return None
    try:
        steps_ms = np.atleast_1d(np.asarray(vector, np.float64))
    except (TypeError, ValueError):
        return None
    if len(steps_ms) == count - 1:
        steps_ms = np.concatenate([[0.0], steps_ms])  # some writers omit the 0 of the first frame
    if len(steps_ms) != count or not np.isfinite(steps_ms).all() or not (steps_ms[1:] > 0).all():
        return None
    steps_ms[0] = 0.0
    return np.cumsum(steps_ms) / 1000


def _parse_positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None
