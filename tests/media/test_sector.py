"""The inscribed crop of the sector holds no letter and most of the sector."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.data import get_testdata_file

from usvs.media.box import Box
from usvs.media.sector import detect_sector, find_inscribed_box
from usvs.media.video import iter_keyframes, read_video_info

APEX, INNER, OUTER, HALF_ANGLE = (300.0, -60.0), 110.0, 440.0, 0.6
SIZE = (420, 600)


def convex_area() -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    across, down = columns - APEX[0], rows - APEX[1]
    radius = np.hypot(across, down)
    return (radius > INNER) & (radius < OUTER) & (np.abs(np.arctan2(across, down)) < HALF_ANGLE)


def make_screens(
    count: int, moving: bool = True, background: int = 0, shadow: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return speckle in a sector, with a menu bar, letters and a ruler around it; and a mask of the letters."""
    rng = np.random.default_rng(3)
    letters = np.zeros(SIZE, np.uint8)
    for row, text in enumerate(["JANE DOE 1987", "GA 20w3d", "15.2cm / 50Hz", "MI 0.6"]):
        cv2.putText(letters, text, (440, 40 + 18 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    cv2.putText(letters, "HOSPITAL  AB2-7-D", (60, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, 230, 2)
    letters[30:400:20, 20:26] = 200
    sector, frames = convex_area(), []
    for _ in range(count):
        speckle = cv2.GaussianBlur(rng.rayleigh(60, SIZE), (0, 0), 2.0)
        if not frames or moving:
            still = speckle
        picture = np.where(sector, np.clip(still, 0, 255), background)
        if shadow:
            picture[200:, 250:330] = np.where(sector[200:, 250:330], 2, background)
        picture[:26, 40:560] = np.where(sector[:26, 40:560], picture[:26, 40:560], 45)
        frames.append(np.maximum(picture, letters).astype(np.uint8))
    return np.stack(frames), (letters > 0) & ~sector


def phased_area() -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    across, down = columns - 300.0, rows - 30.0
    radius = np.hypot(across, down)
    return (radius > 12) & (radius < 350) & (np.abs(np.arctan2(across, down)) < np.pi / 4)


def linear_area() -> np.ndarray:
    area = np.zeros(SIZE, bool)
    area[40:380, 180:420] = True
    return area


def widening_area() -> np.ndarray:
    """Return the area of a linear transducer whose outer beams are steered outwards."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (rows >= 40) & (rows < 380) & (np.abs(columns - 300) < 100 + 0.27 * (rows - 40))


SECTORS = {"convex": convex_area, "phased": phased_area, "linear": linear_area, "widening": widening_area}


def make_cine(area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return speckle in an area, with a name, a ruler and the transducer's mark close to it; and a mask of these."""
    rng, bounds = np.random.default_rng(3), bounding_box(area)
    letters = np.zeros(SIZE, np.uint8)
    cv2.putText(letters, "JANE DOE 1987", (8, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    cv2.putText(letters, "MI 0.6", (530, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    cv2.putText(letters, "19", (bounds.right - 25, bounds.bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255, 1)
    cv2.circle(letters, (360, bounds.top - 8), 4, 255, -1)
    letters[bounds.top : bounds.bottom : 20, bounds.right + 6 : bounds.right + 10] = 200
    letters[area] = 0
    speckle = np.stack([cv2.GaussianBlur(rng.rayleigh(60, SIZE), (0, 0), 2.0) for _ in range(12)])
    return np.maximum(np.where(area, np.clip(speckle, 0, 255), 0), letters).astype(np.uint8), letters > 0


def bounding_box(area: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def intersection_over_union(one: Box, other: Box) -> float:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    both = max(width, 0) * max(height, 0)
    return both / (one.width * one.height + other.width * other.height - both)


@pytest.mark.parametrize(
    ("settings"),
    [{}, {"background": 40}, {"shadow": True}, {"moving": False}],
    ids=["moving", "gray background", "shadow", "frozen"],
)
def test_the_crop_is_large_and_free_of_letters(settings):
    frames, letters = make_screens(12, **settings)
    found = detect_sector(frames)
    assert found.note is None
    assert intersection_over_union(found.crop_box, find_inscribed_box(convex_area())) > 0.85
    assert not found.crop_box.crop(letters).any()
    assert found.crop_box.crop(convex_area()).mean() > 0.99


@pytest.mark.parametrize("kind", SECTORS)
def test_the_sector_of_any_transducer_is_detected_without_a_stated_region(kind: str):
    area = SECTORS[kind]()
    frames, letters = make_cine(area)
    found = detect_sector(frames)
    assert found.source == "found" and found.bounds is not None
    assert intersection_over_union(found.bounds, bounding_box(area)) > 0.95
    assert intersection_over_union(found.crop_box, find_inscribed_box(area)) > 0.85
    assert not found.crop_box.crop(letters).any() and found.crop_box.crop(area).all()


@pytest.mark.parametrize("beyond", [0, 25], ids=["snug", "taller and wider"])
@pytest.mark.parametrize("kind", SECTORS)
def test_a_stated_region_is_the_bounds_and_the_crop_is_detected_inside(kind: str, beyond: int):
    area = SECTORS[kind]()
    frames, letters = make_cine(area)
    sector = bounding_box(area)
    region = Box(sector.left - beyond, sector.top - beyond, sector.right + beyond, sector.bottom + beyond)
    found = detect_sector(frames, region)
    assert (found.source, found.bounds) == ("region", region)
    assert intersection_over_union(found.crop_box, find_inscribed_box(area)) > 0.85
    assert not found.crop_box.crop(letters).any() and found.crop_box.crop(area).all()


def test_one_frame_is_enough():
    frames, letters = make_screens(1)
    box = detect_sector(frames).crop_box
    assert intersection_over_union(box, find_inscribed_box(convex_area())) > 0.8
    assert not box.crop(letters).any()


def test_an_image_filled_by_the_sector_is_kept_almost_completely():
    rng = np.random.default_rng(0)
    frames = cv2.blur(rng.integers(0, 255, (10, 120, 160)).transpose(1, 2, 0).astype(np.uint8), (3, 3)).transpose(
        2, 0, 1
    )
    box = detect_sector(frames).crop_box
    assert box.width > 0.95 * 160 and box.height > 0.93 * 120


@pytest.mark.parametrize("level", [0, 90, 255])
def test_without_a_sector_the_whole_image_is_kept_and_noted(level: int):
    found = detect_sector(np.full((5, 100, 140), level, np.uint8))
    assert found.crop_box == Box(0, 0, 140, 100)
    assert found.note is not None and "the whole image is kept" in found.note


def test_the_inscribed_box_is_the_largest_of_all_boxes():
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
        box = find_inscribed_box(mask)
        assert box.width * box.height == max(areas)
        assert mask[box.top : box.bottom, box.left : box.right].all()


def test_dim_flanks_belong_to_the_sector():
    """Tissue beyond the focus is two or three gray levels above black; it flickers nevertheless."""
    frames, letters = make_screens(12)
    sector = convex_area()
    columns = np.arange(SIZE[1])
    dim = sector & ((columns < 190) | (columns > 410))[None, :]
    noise = np.random.default_rng(4).normal(0, 11, frames.shape)
    faint = np.clip(3 + np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in noise]), 0, 9)  # by about 2
    found = detect_sector(np.where(dim, faint, frames).astype(np.uint8))
    assert found.bounds is not None
    assert intersection_over_union(found.bounds, bounding_box(sector)) > 0.93
    assert not found.crop_box.crop(letters).any() and found.crop_box.crop(sector).mean() > 0.99


def test_pixels_outside_of_the_stated_region_are_ignored():
    """Two images side by side, as in a dual view: the crop is in the one that the file states."""
    left = make_screens(8)[0]
    frames = np.concatenate([left, make_screens(8)[0]], axis=2)
    region = Box(SIZE[1], 0, 2 * SIZE[1], SIZE[0])
    found = detect_sector(frames, region)
    assert found.source == "region" and found.note is None
    assert (
        intersection_over_union(found.crop_box, find_inscribed_box(convex_area()).translate(region.left, region.top))
        > 0.85
    )
    empty = detect_sector(np.zeros_like(frames), region)
    assert empty.crop_box == empty.bounds == region
    assert empty.source == "whole" and "the region is kept" in str(empty.note)


def test_a_real_cine_against_the_region_that_its_scanner_states():
    """SonoSite, 120 frames: the region has exactly the sector's width, and is 26 of 384 rows taller."""
    path = get_testdata_file("color3d_jpeg_baseline.dcm", download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    info = read_video_info(Path(path))
    numbers = np.arange(0, 120, 5)
    frames = np.stack(list(iter_keyframes(Path(path), info, numbers)))
    unaided, aided = detect_sector(frames), detect_sector(frames, info.region)
    assert info.region == Box(84, 31, 596, 415) == aided.bounds and aided.source == "region"
    shown = bounding_box(find_bright_part(frames.max(axis=0), info.region))
    assert (shown.left, shown.right) == (info.region.left, info.region.right) and shown.height == 384 - 26
    assert unaided.bounds is not None and unaided.note is None
    assert intersection_over_union(unaided.bounds, shown) > 0.95
    assert intersection_over_union(unaided.crop_box, aided.crop_box) > 0.9
    brightest = frames.max(axis=0)
    assert (unaided.crop_box.crop(brightest) > 3).mean() > 0.97  # no black corner in it
    assert (aided.crop_box.crop(brightest) > 3).mean() > 0.97


def find_bright_part(brightest: np.ndarray, region: Box) -> np.ndarray:
    """Return the largest connected part of a region that is ever bright, where it is at least three pixels wide."""
    shines = np.zeros(brightest.shape, np.uint8)
    region.crop(shines)[:] = region.crop(brightest) > 3
    _, labels, stats, _ = cv2.connectedComponentsWithStats(cv2.morphologyEx(shines, cv2.MORPH_OPEN, np.ones((3, 3))))
    return labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()


@pytest.mark.shared
def test_crops_of_real_planes_exclude_the_menus(shared_data):
    """Six frames of one vendor, with menu, letters and rulers as they were drawn by eye."""
    paths = sorted((shared_data / "standard_planes").glob("*.png"))
    drawn = json.loads((shared_data / "fans.json").read_text("utf-8"))
    assert len(paths) == 6
    for path in paths:
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        found = detect_sector(picture[None])
        assert found.note is None, path.name
        box = found.crop_box
        for left, top, right, bottom in drawn[f"standard_planes/{path.name}"]["overlays"]:
            assert box.left >= right or box.right <= left or box.top >= bottom or box.bottom <= top, (path.name, box)
        assert box.width * box.height > 0.2 * picture.size, (path.name, box)
