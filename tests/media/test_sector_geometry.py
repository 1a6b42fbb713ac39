"""The geometry that is fitted to a sector: synthetic screens with known geometry, and sectors drawn by eye."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from tests.media.sector_score import Item, drawn_items, intersection_over_union, score, synthetic_items
from tests.media.test_sector import APEX, HALF_ANGLE, SIZE, bounding_box, convex_area, make_screens
from usvs.media.box import Box
from usvs.media.sector import detect_sector
from usvs.media.sector_edges import Edges, find_headers
from usvs.media.sector_geometry import Curve, SectorGeometry

CONVEX = SectorGeometry(300.0, 41.0, 0.684, Curve(50.0, -60.0), Curve(380.0, -60.0))
LINEAR = SectorGeometry(200.0, 120.0, 0.0, Curve(30.0), Curve(300.0))


def passed_of(items) -> tuple[int, int]:
    scores = [score(detect_sector(item.frames), item.area, item.text) for item in items]
    return sum(one["passed"] for one in scores), len(scores)


@pytest.mark.slow
def test_geometry_of_synthetic_screens():
    """No contact at a flank, dark depth, fluid, text, a header, a gray background, or cut by the border."""
    passed, count = passed_of(synthetic_items(range(303, 304)))
    assert count == 8 and passed >= 6


@pytest.mark.slow
def test_geometry_of_many_synthetic_screens():
    passed, count = passed_of(synthetic_items(range(300, 306)))
    assert count == 48 and passed >= 0.75 * count


def change_picture(item: Item, change: str) -> Item:
    """Return an item in another size or with other gray levels; the sector stays the same."""
    if change == "gamma":
        table = np.rint(255 * (np.arange(256) / 255) ** 1.25).astype(np.uint8)
        return replace(item, frames=table[item.frames])
    height, width = (round(0.8 * side) for side in item.area.shape)

    def resize(picture: np.ndarray) -> np.ndarray:
        return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)

    area, text = (resize(one.astype(np.float32)) for one in (item.area, item.text))
    return replace(item, frames=np.stack([resize(one) for one in item.frames]), area=area > 0.5, text=text > 0.01)


@pytest.mark.slow
@pytest.mark.shared
def test_geometry_of_sectors_drawn_by_eye(shared_data):
    """Of clips, of single frames and of complete screens, also smaller and darker; none of the crops holds text."""
    found: dict[str, list[bool]] = {}
    changed = {"smaller": 0, "gamma": 0}
    confidences: dict[bool, list[float]] = {True: [], False: []}
    for item in drawn_items(shared_data):
        sector = detect_sector(item.frames)
        figures = score(sector, item.area, item.text)
        assert not figures["text"], item.name
        found.setdefault(item.group, []).append(figures["passed"])
        confidences[figures["passed"]].append(sector.confidence)
        if item.name.endswith(("BRAIN-TV.png", "PROFILE.png")):  # wide sectors that the screen cuts: not rectangles
            assert sector.geometry is not None and sector.geometry.slope > 1
        for change in changed:
            other = change_picture(item, change)
            figures = score(detect_sector(other.frames), other.area, other.text)
            assert not figures["text"], (item.name, change)
            changed[change] += figures["passed"]
    passed = {group: sum(ones) for group, ones in found.items()}
    assert {group: len(ones) for group, ones in found.items()} == {
        "video convex": 19,
        "still convex": 19,
        "video linear": 2,
        "still linear": 2,
        "still screen": 6,
    }
    assert passed["video convex"] >= 19 and passed["still convex"] >= 18 and passed["still screen"] == 6
    assert passed["video linear"] == passed["still linear"] == 2
    assert changed["smaller"] >= 44 and changed["gamma"] >= 43
    # `usvs audit` lists the least certain first.
    assert max(confidences[False], default=0) < np.quantile(confidences[True], 0.1)


@pytest.mark.parametrize("side", [-1, 1], ids=["left", "right"])
def test_a_flank_without_contact_belongs_to_the_sector(side: int):
    """One flank is as black as the background: the other edge and the arcs determine it."""
    frames, letters = make_screens(12)
    dark = convex_area() & (side * (np.arange(SIZE[1]) - 300) > 60)[None, :]
    found = detect_sector(np.where(dark, 0, frames))
    assert found.bounds is not None
    assert intersection_over_union(found.bounds, bounding_box(convex_area())) > 0.9
    assert not found.crop_box.crop(letters).any() and found.crop_box.crop(convex_area()).mean() > 0.98


def test_black_fluid_near_the_probe_is_inside_the_sector():
    frames, letters = make_screens(12)
    radius = np.hypot(np.arange(SIZE[1]) - 300.0, np.arange(SIZE[0])[:, None] + 60.0)
    fluid = convex_area() & (radius > 140) & (radius < 240)
    found = detect_sector(np.where(fluid, 0, frames))
    assert found.bounds is not None
    assert intersection_over_union(found.bounds, bounding_box(convex_area())) > 0.93
    assert not found.crop_box.crop(letters).any()


def make_beams(seed: int, count: int = 6) -> np.ndarray:
    """Return moving speckle for every pixel of a screen [n, H, W]."""
    rng = np.random.default_rng(seed)
    speckle = (cv2.GaussianBlur(rng.rayleigh(60, SIZE), (0, 0), 2.0) for _ in range(count))
    return np.clip(np.stack(list(speckle)), 20, 255).astype(np.uint8)


@pytest.mark.parametrize("side", [-1, 1], ids=["left", "right"])
def test_a_dark_flank_ends_at_a_beam_that_starts_at_the_apex(side: int):
    """The picture is cut out between the arcs, so that only the other edge and the beam show where the apex is."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    across, down = side * (columns + 0.5 - APEX[0]), rows + 0.5 - APEX[1]
    area = np.abs(np.arctan2(across, down)) < HALF_ANGLE
    lit = area & (np.arctan2(across, down) < 0.25)
    part = (slice(60, 330), slice(40, 560))
    frames = np.where(lit, make_beams(12), 0).astype(np.uint8)[(slice(None), *part)]
    found, area = detect_sector(frames), area[part]
    assert found.bounds is not None and found.geometry is not None
    assert intersection_over_union(found.bounds, bounding_box(area)) > 0.95
    assert found.geometry.slope == pytest.approx(np.tan(HALF_ANGLE), rel=0.1)
    assert found.crop_box.crop(area).mean() > 0.98


def test_a_picture_without_background_is_kept_completely():
    """Tissue fills it; black shadows that end anywhere are no background, and the audit lists it first."""
    frames = make_beams(5)
    wave = 40 * np.sin(np.arange(SIZE[0]) / 37)[:, None]
    columns = np.arange(SIZE[1])[None, :]
    frames[:, (columns < 110 + wave) & (np.arange(SIZE[0]) > 120)[:, None]] = 0
    frames[:, (columns > 480 - 0.5 * wave) & (np.arange(SIZE[0]) > 180)[:, None]] = 0
    found = detect_sector(frames)
    assert found.bounds is not None
    assert intersection_over_union(found.bounds, Box(0, 0, SIZE[1], SIZE[0])) > 0.97
    assert found.crop_box.width > 0.9 * SIZE[1] and found.crop_box.height > 0.9 * SIZE[0]
    assert found.confidence < 0.4


def test_a_cut_out_picture_with_black_margins():
    """A convex sector that was cut out, and shown by a player between black bars: the cuts are not its edges."""
    part = (slice(0, 330), slice(100, 500))
    frames = np.where(convex_area(), make_beams(7), 0).astype(np.uint8)[(slice(None), *part)]
    area = np.pad(convex_area()[part], ((0, 0), (60, 60)))
    found = detect_sector(np.pad(frames, ((0, 0), (0, 0), (60, 60))))
    assert found.bounds is not None and found.geometry is not None
    assert intersection_over_union(found.bounds, bounding_box(area)) > 0.95
    assert found.geometry.slope == pytest.approx(np.tan(HALF_ANGLE), rel=0.1)
    assert found.crop_box.crop(area).mean() > 0.98
    assert found.confidence > 0.7  # the cuts are not borders of the sector that are not seen


def test_dark_depth_above_the_background_is_inside_the_sector():
    """The image fades, to two or three gray levels above the background."""
    frames, _ = make_screens(1, background=20)
    fade = np.clip((330 - np.arange(SIZE[0])) / 120, 0, 1)[:, None]
    faint = np.random.default_rng(1).normal(23, 1, SIZE)
    found = detect_sector(np.where(convex_area(), fade * frames + (1 - fade) * faint, frames).astype(np.uint8))
    assert found.bounds is not None
    assert intersection_over_union(found.bounds, bounding_box(convex_area())) > 0.93


def test_a_header_that_touches_the_sector_is_outside():
    frames, _ = make_screens(6)
    rows = np.flatnonzero(convex_area().any(axis=1))
    frames = frames.copy()
    frames[:, : rows[0] + 30, 200:] = np.where(convex_area()[: rows[0] + 30, 200:], 0, 0)
    frames[:, rows[0] + 6 : rows[0] + 30, 200:] = 90
    cv2.putText(frames[0], "12.0cm / 49Hz", (260, int(rows[0]) + 24), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 240, 1)
    found = detect_sector(np.where(np.arange(len(frames))[:, None, None] >= 0, frames, 0))
    assert found.bounds is not None and found.bounds.top >= rows[0] + 26
    assert found.crop_box.top >= rows[0] + 30


WIDE = SectorGeometry(300.0, 30.0, 1.35, Curve(40.0), Curve(430.0, -22.0), 120.0, 480.0)  # cut by the screen


def test_a_wide_sector_that_the_screen_cuts_at_both_sides():
    """The cuts are longer than what is left of the edges: the sector is not the rectangle between the cuts."""
    area = WIDE.draw_mask(*SIZE)
    rng = np.random.default_rng(3)
    tissue = cv2.GaussianBlur(rng.normal(90, 60, SIZE), (0, 0), 1.5) + rng.normal(0, 6, SIZE)
    for count in (1, 6):
        frames = np.stack([np.where(area, np.clip(tissue + 8 * number, 12, 255), 0) for number in range(count)])
        found = detect_sector(frames.astype(np.uint8))
        assert found.bounds is not None
        assert intersection_over_union(found.bounds, bounding_box(area)) > 0.95
        assert found.crop_box.crop(area).mean() > 0.995
        assert found.geometry is not None and found.geometry.slope == pytest.approx(WIDE.slope, rel=0.15)


def test_a_panel_over_a_corner_is_outside_of_the_crop():
    """It has the background's colour, and measurements or nothing on it."""
    area = WIDE.draw_mask(*SIZE)
    tissue = cv2.GaussianBlur(np.random.default_rng(4).normal(90, 60, SIZE), (0, 0), 1.5)
    for panel in ((slice(300, None), slice(0, 200)), (slice(300, None), slice(420, None))):
        frames = np.where(area, np.clip(tissue, 12, 255), 0).astype(np.uint8)[None]
        frames[(0, *panel)] = 0
        covered = area.copy()
        covered[panel] = False
        assert detect_sector(frames).crop_box.crop(covered).mean() > 0.995


@pytest.mark.parametrize("sides", [((210, 210), (0, 0)), ((0, 0), (300, 280))], ids=["letterbox", "pillars"])
def test_bars_of_a_player_are_not_the_background(sides: tuple[tuple[int, int], ...]):
    """Gray bars around a black screen: the sector is not the screen between the bars."""
    frames, letters = make_screens(3)
    padded = np.stack([np.pad(frame, sides, constant_values=60) for frame in frames])
    area, text = np.pad(convex_area(), sides), np.pad(letters, sides)
    cv2.putText(padded[0], "CASE 12", (2, padded.shape[1] - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.3, 220, 1)
    padded[1:, area.shape[0] - 20 :, :60] = padded[0, area.shape[0] - 20 :, :60]
    figures = score(detect_sector(padded), area, text)
    assert figures["passed"], figures


def test_of_two_sectors_side_by_side_the_left_one_is_used():
    frames, letters = make_screens(3)
    gap = np.zeros((3, SIZE[0], 10), np.uint8)
    found = detect_sector(np.concatenate([frames, gap, frames], axis=2))
    assert found.bounds is not None
    assert intersection_over_union(found.bounds, bounding_box(convex_area())) > 0.9
    assert found.crop_box.right < 600 and found.crop_box.crop(convex_area()).mean() > 0.98
    assert not found.crop_box.crop(letters).any()


def test_a_header_below_a_title_is_found():
    """Letters above a header are no tissue, so that it may be as far below them as a screen has room for."""
    active = np.zeros((240, 320), bool)
    active[5:9, 30:90] = True  # a title
    active[26:38, 40:] = active[38:230, 10:177] = True  # the header, and the sector
    painted = np.zeros_like(active)
    painted[:38] = True
    edges = Edges(*(np.array([value]) for value in (93.0, 84.0, 0.0, 100.0)))
    assert find_headers(active, painted, 26, edges).tolist() == [39]


def test_confidence_is_high_where_the_outline_is_seen_and_low_where_it_is_not():
    seen = detect_sector(make_screens(12)[0])
    rng = np.random.default_rng(2)
    blob = cv2.GaussianBlur(rng.normal(0, 1, SIZE), (0, 0), 40) > 0.005  # an area without straight borders
    unseen = detect_sector(np.where(blob, make_screens(12)[0].max(axis=0), 0).astype(np.uint8)[None])
    assert seen.confidence > 0.75 and unseen.confidence < 0.6
    assert detect_sector(np.zeros((3, 90, 90), np.uint8)).confidence == 0


@pytest.mark.parametrize("geometry", [CONVEX, LINEAR], ids=["convex", "linear"])
def test_geometry_is_stored_moved_and_scaled(geometry: SectorGeometry):
    assert SectorGeometry.from_json(geometry.to_json()) == geometry
    mask = geometry.draw_mask(400, 600)
    assert (geometry.moved(30, 12).draw_mask(440, 660)[12:412, 30:630] == mask).mean() > 0.9999
    small = cv2.resize(mask.astype(np.uint8), (300, 200), interpolation=cv2.INTER_AREA)
    assert (geometry.scaled(0.5).draw_mask(200, 300) == (small > 0)).mean() > 0.98


def test_unfolded_rows_are_depths_and_columns_are_beams():
    rows, columns = np.mgrid[:420, :600] + 0.5
    apex = CONVEX.apex
    assert apex == pytest.approx(-60, abs=0.1)
    depth = (np.hypot(columns - 300, rows + 60) - 110) / 330
    angle = np.arctan2(columns - 300, rows + 60) / np.arctan(CONVEX.slope)
    for picture, expected in (
        (depth, np.broadcast_to((np.arange(64) + 0.5)[:, None] / 64, (64, 64))),
        ((angle + 1) / 2, np.broadcast_to((np.arange(64) + 0.5)[None, :] / 64, (64, 64))),
    ):
        unfolded = CONVEX.unfold(np.clip(255 * picture, 0, 255).astype(np.uint8), 64, 64) / 255
        assert np.abs(unfolded - expected).max() < 0.02
    linear = LINEAR.unfold(np.clip(rows / 2, 0, 255).astype(np.uint8), 64, 64)
    assert np.abs(linear - (30 + 270 * (np.arange(64) + 0.5) / 64)[:, None] / 2).max() < 2


def test_what_is_beyond_the_border_is_black_when_unfolded():
    picture = np.full((420, 250), 200, np.uint8)  # the right flank is cut off
    unfolded = CONVEX.unfold(picture, 64, 64)
    assert (unfolded[:, :5] == 200).all() and (unfolded[:, -20:] == 0).all()
