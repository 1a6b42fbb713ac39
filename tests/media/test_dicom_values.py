"""Bits in use in uncompressed DICOM files: where the header is wrong, the values decide, and it is noted."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.dicom_files import gray_frames, write_dicom
from usvs.media.video import iter_gray_frames, read_video_info

DEEP = gray_frames().astype(np.uint16) << 4  # 12 bits
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


@pytest.mark.parametrize(
    ("values", "tags", "note"),
    [
        (DEEP, {"BitsStored": 12, "HighBit": 11}, None),
        (DEEP, {"BitsStored": 12, "HighBit": 11, **WINDOW}, None),
        (DEEP << 4, {"BitsStored": 12, "HighBit": 15}, "the values begin at bit 4"),
        (DEEP << 4, {"BitsStored": 12, "HighBit": 15, **WINDOW}, "the values begin at bit 4"),
        (DEEP, {"BitsStored": 8, "HighBit": 7}, "announces 8 bits, the values use 12: 12 are used"),
        (DEEP, {"BitsStored": 16, "HighBit": 15}, "announces 16 bits, the values use 12: 12 are used"),
        (DEEP, {"BitsStored": 16, "HighBit": 15, **WINDOW}, None),  # the window says how the values are shown
        (DEEP | 0x5000, {"BitsStored": 12, "HighBit": 11}, None),  # what is the same in each value is no image
        (gray_frames().astype(np.uint16), {"BitsStored": 8, "HighBit": 7}, None),
    ],
)
def test_the_bits_that_the_values_use_decide(tmp_path: Path, values: np.ndarray, tags, note: str | None):
    write_dicom(tmp_path / "a.dcm", values, FrameTime=40, **tags)
    found = np.stack([gray for _, gray in iter_gray_frames(tmp_path / "a.dcm")])
    assert np.abs(found.astype(int) - gray_frames()).max() <= 1
    given = read_video_info(tmp_path / "a.dcm").file_note
    assert given is None if note is None else note in str(given)


def test_bits_of_an_overlay_are_left_out(tmp_path: Path):
    draw = np.random.default_rng(0).integers(0, 2, DEEP.shape).astype(np.uint16)
    tags = {"BitsStored": 12, "HighBit": 11, "FrameTime": 40}
    data = write_dicom(tmp_path / "a.dcm", DEEP | (draw << 15), **tags)
    data.add_new((0x6000, 0x0102), "US", 15)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    found = np.stack([gray for _, gray in iter_gray_frames(tmp_path / "a.dcm")])
    assert np.abs(found.astype(int) - gray_frames()).max() <= 1
    assert read_video_info(tmp_path / "a.dcm").file_note is None
