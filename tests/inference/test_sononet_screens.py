"""SonoNet on complete screens without a box: the part of the sector that its authors show it."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.inference.test_predict import AUTHORS_BOX, NAMES
from tests.media.sector_score import intersection_over_union
from tests.media.test_sector import make_screens
from tests.support.dicom_files import write_dicom
from tests.support.media_files import write_video
from usvs import predict
from usvs.inference.sononet import crop_screen, sononet_box
from usvs.media.box import Box
from usvs.media.sector import Sector, detect_sector
from usvs.media.sector_geometry import Curve, SectorGeometry


def test_the_box_of_a_sector_ends_at_its_bottom_and_leaves_out_the_near_field():
    geometry = SectorGeometry(479.5, 140.0, 0.5, Curve(74.0, -280.0), Curve(735.0, -280.0))
    sector = Sector(Box(200, 200, 700, 700), None, "found", Box(0, 74, 958, 735), geometry, 0.8)
    box = sononet_box(sector)
    assert intersection_over_union(box, AUTHORS_BOX) > 0.97
    cut = Sector(sector.crop_box, None, "found", Box(0, 0, 958, 735), geometry, 0.8)  # the probe is beyond the image
    assert sononet_box(cut).top == 0


def test_what_is_beyond_the_screen_is_black():
    sector = Sector(Box(0, 0, 40, 90), None, "found", Box(0, 0, 40, 90))
    crop = crop_screen(np.full((90, 40), 7.0), sector, None, Path("narrow.png"))
    assert crop.shape[1] / crop.shape[0] == pytest.approx(288 / 224, rel=0.02)
    assert crop.sum() == 7 * 90 * 40 and (crop[:, :10] == 0).all()


@pytest.mark.shared
def test_the_boxes_of_six_real_screens_are_the_authors(shared_data):
    for stem in NAMES:
        screen = cv2.imread(str(shared_data / "standard_planes" / f"{stem}.png"), cv2.IMREAD_GRAYSCALE)
        assert intersection_over_union(sononet_box(detect_sector(screen[None])), AUTHORS_BOX) > 0.9, stem


@pytest.mark.slow
@pytest.mark.shared
def test_videos_and_dicom_files_of_screens_are_named(shared_data, tmp_path):
    """A video may be at another size, and a DICOM file states no region."""
    model, expected = f"sononet:{shared_data / 'SonoNet16.npz'}", {}
    for stem in ("4CH", "FEMUR", "SPINE-SAGITTAL"):
        screen = cv2.imread(str(shared_data / "standard_planes" / f"{stem}.png"), cv2.IMREAD_GRAYSCALE)
        small = cv2.resize(screen, (780, 588), interpolation=cv2.INTER_AREA)
        expected[write_video(tmp_path / f"{stem}.mp4", pictures=[small] * 9)] = NAMES[stem]
        file = tmp_path / f"{stem}.dcm"
        write_dicom(file, np.stack([screen] * 3))
        expected[file] = NAMES[stem]
    found = predict(list(expected), model, stride=8)
    assert not [one.error for one in found if one.error]
    assert {one.file: one.label for one in found} == expected
    assert all(one.seconds is not None for one in found)


def test_a_screen_without_a_sector_is_shown_completely():
    frames, _ = make_screens(1)
    empty = detect_sector(np.zeros_like(frames))
    assert crop_screen(np.zeros(frames.shape[1:]), empty, None, Path("empty.png")).shape[0] == frames.shape[1]
