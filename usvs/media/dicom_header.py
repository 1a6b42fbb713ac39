"""What a DICOM header says about when its frames are shown, how large they are and where the ultrasound is."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from usvs.errors import DataError
from usvs.media.grayscale import shown_size
from usvs.media.sector import Box
from usvs.media.timing import FALLBACK_RATE_HZ

# PS3.3 C.8.5.5.1: spatial format 1 is two-dimensional; data types 1 tissue and 2 colour flow are pictures of anatomy
TWO_DIMENSIONAL, ANATOMY = 1, (1, 2)
FRAME_TIME, FRAME_TIME_VECTOR = 0x00181063, 0x00181065
RATES = ("CineRate", "RecommendedDisplayFrameRate")
# what de-identification writes instead of a patient's id
PLACEHOLDERS = ("anon", "unknown", "none", "null", "na", "deidentified", "removed", "redacted", "noid", "patient", "id")
REQUIRED = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PhotometricInterpretation")


def dicom_seconds(header: Dataset, count: int) -> tuple[NDArray[np.float64], str | None]:
    """Return frame times on the scan clock [n], and a note where they are not the file's own.

    The element that FrameIncrementPointer names comes first, then FrameTimeVector, FrameTime, CineRate and
    RecommendedDisplayFrameRate (PS3.3 C.7.6.5, C.7.6.6).
    """
    pointer = header.get("FrameIncrementPointer")
    vector = _vector_seconds(header.get("FrameTimeVector"), count)
    interval = _positive(header.get("FrameTime"))
    if vector is not None and not (pointer == FRAME_TIME and interval):
        return vector, None
    misfit = "its FrameTimeVector does not fit its frames; {} is used" if "FrameTimeVector" in header else None
    if interval:
        note = misfit and misfit.format("FrameTime")
        return np.arange(count, dtype=np.float64) * (interval / 1000), None if pointer == FRAME_TIME else note
    for name in RATES:
        rate = _positive(header.get(name))
        if rate:
            return np.arange(count) / rate, misfit and misfit.format(name)
    note = None if count == 1 else f"no frame time in the DICOM: {FALLBACK_RATE_HZ:g} frames a second are assumed"
    return np.arange(count) / FALLBACK_RATE_HZ, note


def dicom_region(header: Dataset, pixel_aspect: float = 1.0) -> Box | None:
    """Return the largest region of two-dimensional anatomy that the header states, in pixels as they are shown.

    Source: SequenceOfUltrasoundRegions, PS3.3 C.8.5.5.1; its maxima are inclusive.
    """
    width, height = int(header.get("Columns") or 0), int(header.get("Rows") or 0)
    found: list[Box] = []
    for region in header.get("SequenceOfUltrasoundRegions") or ():
        if int(region.get("RegionSpatialFormat") or 0) != TWO_DIMENSIONAL:
            continue
        if int(region.get("RegionDataType") or 0) not in ANATOMY:
            continue
        sides = [region.get(f"RegionLocation{side}") for side in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        if any(side is None for side in sides):
            continue
        left, top, right, bottom = (int(side) for side in sides)
        # a region that reaches outside was stated for another size of picture and says nothing about this one
        if 0 <= left < right <= width and 0 <= top < bottom <= height:
            right, bottom = min(right + 1, width), min(bottom + 1, height)
            found.append(Box(round(left * pixel_aspect), top, round(right * pixel_aspect), bottom))
    return max(found, key=lambda box: box.width * box.height, default=None)


def dicom_patient(header: Dataset) -> str | None:
    """Return who was scanned by the file's own PatientID, None where that is empty or a placeholder.

    It tells people apart and stays private: it is for `Keys.patient_key` and nothing else.
    """
    name = str(header.get("PatientID") or "").strip()
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    is_placeholder = plain in PLACEHOLDERS or plain.startswith("anonym") or set(plain) <= {"0", "x"}
    return None if is_placeholder else name


def picture_size(header: Dataset) -> tuple[int, int, float]:
    """Return width and height as shown, and the pixel aspect (width over height).

    Raises:
        DataError: where the header does not describe a picture.
    """
    missing = [name for name in REQUIRED if header.get(name) in (None, "", 0)]
    if missing:
        raise DataError(f"the DICOM header lacks {missing[0]}")
    aspect = header.get("PixelAspectRatio")  # vertical over horizontal size, as two whole numbers
    ratio = 1.0
    if isinstance(aspect, MultiValue) and len(aspect) == 2 and all(float(part) > 0 for part in aspect):
        ratio = float(aspect[1]) / float(aspect[0])
    width, height = shown_size(int(header.Columns), int(header.Rows), 0, ratio)
    return width, height, ratio


def _vector_seconds(vector: Any, count: int) -> NDArray[np.float64] | None:
    if vector is None:
        return None
    steps = np.atleast_1d(np.asarray(vector, np.float64))
    if len(steps) == count - 1:
        steps = np.concatenate([[0.0], steps])  # some writers leave the first frame's 0 out
    if len(steps) != count or not (steps[1:] > 0).all():
        return None
    steps[0] = 0.0
    return np.cumsum(steps) / 1000


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None
