"""The fan's inner box holds no letter and most of the picture."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.data import get_testdata_file

from usvs.archive.decoders import iter_keyframes, probe
from usvs.archive.sector import Box, find_sector, inscribed_box, look_for_sector

APEX, INNER, OUTER, HALF_ANGLE = (300.0, -60.0), 110.0, 440.0, 0.6
SIZE = (420, 600)


def fan_area() -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    across, down = columns - APEX[0], rows - APEX[1]
    radius = np.hypot(across, down)
    return (radius > INNER) & (radius < OUTER) & (np.abs(np.arctan2(across, down)) < HALF_ANGLE)


def screens(
    count: int, moving: bool = True, background: int = 0, shadow: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Speckle in a fan, a menu bar, letters, a ruler and a gray wedge around it; and where the letters are."""
    rng = np.random.default_rng(3)
    letters = np.zeros(SIZE, np.uint8)
    for row, text in enumerate(["JANE DOE 1987", "GA 20w3d", "15.2cm / 50Hz", "MI 0.6"]):
        cv2.putText(letters, text, (440, 40 + 18 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    cv2.putText(letters, "HOSPITAL  AB2-7-D", (60, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, 230, 2)
    letters[30:400:20, 20:26] = 200
    fan, frames = fan_area(), []
    for _ in range(count):
        speckle = cv2.GaussianBlur(rng.rayleigh(60, SIZE), (0, 0), 2.0)
        if not frames or moving:
            still = speckle
        picture = np.where(fan, np.clip(still, 0, 255), background)
        if shadow:
            picture[200:, 250:330] = np.where(fan[200:, 250:330], 2, background)
        picture[:26, 40:560] = np.where(fan[:26, 40:560], picture[:26, 40:560], 45)
        frames.append(np.maximum(picture, letters).astype(np.uint8))
    return np.stack(frames), (letters > 0) & ~fan


def overlap(one: Box, other: Box) -> float:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    both = max(width, 0) * max(height, 0)
    return both / (one.width * one.height + other.width * other.height - both)


@pytest.mark.parametrize(
    ("settings"),
    [{}, {"background": 40}, {"shadow": True}, {"moving": False}],
    ids=["moving", "gray background", "shadow", "frozen"],
)
def test_box_is_the_fans_largest_and_free_of_letters(settings):
    frames, letters = screens(12, **settings)
    found = look_for_sector(frames)
    assert found.note is None
    assert overlap(found.box, inscribed_box(fan_area())) > 0.85
    assert not found.box.crop(letters).any()
    assert found.box.crop(fan_area()).mean() > 0.99


def test_one_still_picture_is_enough():
    frames, letters = screens(1)
    box = find_sector(frames)
    assert overlap(box, inscribed_box(fan_area())) > 0.8
    assert not box.crop(letters).any()


def test_a_picture_that_the_fan_fills_is_kept_nearly_whole():
    rng = np.random.default_rng(0)
    frames = cv2.blur(rng.integers(0, 255, (10, 120, 160)).transpose(1, 2, 0).astype(np.uint8), (3, 3)).transpose(
        2, 0, 1
    )
    box = find_sector(frames)
    assert box.width > 0.95 * 160 and box.height > 0.93 * 120


@pytest.mark.parametrize("level", [0, 90, 255])
def test_without_a_fan_the_whole_picture_is_kept_and_that_is_said(level: int):
    found = look_for_sector(np.full((5, 100, 140), level, np.uint8))
    assert found.box == Box(0, 0, 140, 100)
    assert found.note is not None and "whole picture" in found.note


def test_inscribed_box_is_the_largest_of_all_boxes():
    rng = np.random.default_rng(5)
    for _ in range(30):
        mask = rng.random((7, 9)) > 0.25
        areas = [
            (bottom - top) * (right - left)
            for top in range(7)
            for bottom in range(top + 1, 8)
            for left in range(9)
            for right in range(left + 1, 10)
            if mask[top:bottom, left:right].all()
        ]
        box = inscribed_box(mask)
        assert box.width * box.height == max(areas)
        assert mask[box.top : box.bottom, box.left : box.right].all()


def test_dim_flanks_belong_to_the_fan():
    """Tissue beyond the focus shines by two or three gray levels; it flickers all the same."""
    frames, letters = screens(12)
    fan = fan_area()
    columns = np.arange(SIZE[1])
    dim = fan & ((columns < 190) | (columns > 410))[None, :]
    noise = np.random.default_rng(4).normal(0, 11, frames.shape)
    faint = np.clip(3 + np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in noise]), 0, 9)  # by about 2
    found = look_for_sector(np.where(dim, faint, frames).astype(np.uint8))
    assert found.bounds is not None
    rows, across = np.flatnonzero(fan.any(axis=1)), np.flatnonzero(fan.any(axis=0))
    assert overlap(found.bounds, Box(across[0], rows[0], across[-1] + 1, rows[-1] + 1)) > 0.93
    assert not found.box.crop(letters).any() and found.box.crop(fan).mean() > 0.99


def test_only_the_stated_region_is_looked_at():
    """Two pictures side by side, as in a dual view: the box lies in the one that the file names."""
    left = screens(8)[0]
    frames = np.concatenate([left, screens(8)[0]], axis=2)
    region = Box(SIZE[1], 0, 2 * SIZE[1], SIZE[0])
    found = look_for_sector(frames, region)
    assert found.source == "region" and found.note is None
    assert overlap(found.box, inscribed_box(fan_area()).moved(region)) > 0.85
    empty = look_for_sector(np.zeros_like(frames), region)
    assert empty.box == region and empty.source == "whole" and "the region is kept" in str(empty.note)


def test_a_real_cine_against_the_region_that_its_machine_wrote():
    """SonoSite, 120 frames: the region is the fan's bounds to the pixel across; down it is 25 of 384 rows taller."""
    path = get_testdata_file("color3d_jpeg_baseline.dcm", download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    info = probe(Path(path))
    numbers = np.arange(0, 120, 5)
    frames = np.stack(list(iter_keyframes(Path(path), info, numbers)))
    unaided, aided = look_for_sector(frames), look_for_sector(frames, info.region)
    assert info.region == Box(84, 31, 596, 415)
    assert unaided.bounds is not None and aided.bounds is not None and unaided.note is None
    shown = Box(84, 44, 596, 404)  # the fan itself, read off its brightest pixels
    assert overlap(unaided.bounds, shown) > 0.95 and overlap(aided.bounds, shown) > 0.95
    assert overlap(unaided.box, aided.box) > 0.9
    brightest = frames.max(axis=0)
    assert (unaided.box.crop(brightest) > 3).mean() > 0.97  # no black corner in it
    assert (aided.box.crop(brightest) > 3).mean() > 0.97


@pytest.mark.shared
def test_real_planes_lose_their_menus(shared_data):
    """Six frames of one vendor: menu above row 75, letters to the right of column 890, the gray wedge left of 20."""
    paths = sorted((shared_data / "standard_planes").glob("*.png"))
    assert len(paths) == 6
    for path in paths:
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        found = look_for_sector(picture[None])
        assert found.note is None, path.name
        box = found.box
        assert box.top >= 70 and box.left >= 20 and box.right <= 900, (path.name, box)
        assert box.width * box.height > 0.2 * picture.size, (path.name, box)
