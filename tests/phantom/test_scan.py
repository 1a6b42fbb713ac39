"""One scan from its seeds: pixels, poses, script, and what they promise to the method."""

from itertools import islice

import numpy as np
import pytest

from usvs.archive.labels import BACKGROUND, STANDARD_PLANES
from usvs.phantom.anatomy import DRAW_FUNCTIONS
from usvs.phantom.scan import PhantomScan
from usvs.phantom.settings import PhantomSettings

SETTINGS = PhantomSettings(scan_seconds=12.0, frame_width=240, frame_height=200)


def pictures(scan: PhantomScan, count: int) -> np.ndarray:
    return np.stack(list(islice(scan.pictures(), count)))


def test_the_same_seed_gives_the_same_pixels_and_another_others():
    first, again, other = (pictures(PhantomScan(seed, 1, 1, SETTINGS), 30) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or np.mean(first == other) < 0.9


def test_a_second_scan_of_a_patient_has_the_same_scanner_and_another_script():
    first, second = PhantomScan(5, 1, 1, SETTINGS), PhantomScan(5, 1, 2, SETTINGS)
    assert first.sector == second.sector and first.script != second.script


def test_every_plane_has_a_drawing():
    assert set(DRAW_FUNCTIONS) == set(STANDARD_PLANES)


def test_a_scan_of_ninety_seconds_visits_every_plane_about_once():
    for patient in range(1, 9):
        scan = PhantomScan(0, patient, 1, PhantomSettings())
        visits = [segment.plane for segment in scan.script if segment.plane != BACKGROUND]
        assert len(set(visits)) >= 12 and len(visits) <= 15
        held = np.array([s.frames for s in scan.script if s.plane != BACKGROUND]) / scan.rate_hz
        assert held.min() > 3.5 and held.max() < 8.5
        assert scan.frames == 90 * scan.rate_hz and 0.1 < np.mean(scan.planes() == BACKGROUND) < 0.35
        starts, ends = [s.start for s in scan.script], [s.stop for s in scan.script]
        assert starts == [0, *ends[:-1]]


def test_the_drift_adds_up_so_that_the_order_of_frames_can_be_told():
    scan = PhantomScan(0, 1, 1, PhantomSettings())
    left, _, right, _ = scan.sector.inscribed_crop()
    width = (right - left) / scan.sector.unit()[2]
    fractions, straight = [], []
    for segment, poses in zip(scan.script, scan.poses, strict=True):
        if segment.plane == BACKGROUND:
            continue
        path = np.array([[pose.x, pose.y] for pose in poses])
        steps = np.diff(path[:: scan.rate_hz // 2], axis=0)  # about half a second
        fractions.append(np.linalg.norm(steps, axis=1).mean() * 4 / width)
        straight.append(np.mean((steps[1:] * steps[:-1]).sum(axis=1) > 0))
    assert min(fractions) > 0.05 and max(fractions) < 0.3
    assert np.mean(straight) > 0.8  # turns are rare


def test_the_slab_moves_as_the_pose_says():
    scan = PhantomScan(0, 1, 1, SETTINGS)
    pose = scan.poses[1][0]
    points = np.array([[0.3, -0.2], [-0.5, 0.6]])
    seen = pose.view_points(points)
    x, y = pose.slab_points(seen[:, 0].astype(np.float32), seen[:, 1].astype(np.float32))
    np.testing.assert_allclose(np.stack([x, y], axis=1), points, atol=1e-5)


def test_the_sector_is_drawn_where_the_geometry_says_and_bone_casts_a_shadow():
    scan = PhantomScan(2, 1, 1, SETTINGS)
    height, width = scan.sector.height, scan.sector.width
    gray = pictures(scan, 40)[:, :height].astype(float).mean(axis=0)
    inside = scan.sector.pixel_beams()[0] >= 0
    assert gray.shape == (height, width)
    assert gray[inside].mean() > 1.5 * gray[~inside].mean()
    corner = gray[height // 2 :, :][~inside[height // 2 :, :]]
    assert np.median(corner) == 16  # black, in limited range


@pytest.mark.parametrize("plane", ["femur", "spine_sag"])
def test_bone_casts_a_shadow(plane):
    from usvs.phantom.anatomy import draw_slab, reflectivity
    from usvs.phantom.sonography import FrameRenderer, Layer, TransducerContact, draw_scanner
    from usvs.phantom.transducer import Pose
    from usvs.utils.seeds import stream

    calm = PhantomSettings(rotation_degrees=0.0, scale=(1.0, 1.0))
    scan = PhantomScan(0, 1, 1, calm)
    above, below = [], []
    for number in range(4):
        slab = draw_slab(plane, stream(0, "p"), stream(0, "v", number), scan.sector.apex_in_tissue(), calm)
        slab.canvas.scatter[:] = 1.0
        renderer = FrameRenderer(scan.sector, draw_scanner(0, 1), stream(0, "n", number))
        layer = Layer(reflectivity(slab.canvas, stream(0, "s", number)), Pose(0, 0, 0, 1))
        frame = renderer.frame([layer], TransducerContact(0.0, np.ones((1, 128), np.float32)))
        x, y = scan.sector.to_pixels(slab.landmarks).mean(axis=0).astype(int)
        unit = int(scan.sector.unit()[2])
        above.append(frame[y - unit // 2 : y - unit // 3, x - 8 : x + 8].mean())
        below.append(frame[y + unit // 3 : y + unit // 2, x - 8 : x + 8].mean())
    assert np.mean(below) < 0.7 * np.mean(above)
