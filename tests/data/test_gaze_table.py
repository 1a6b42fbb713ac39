import numpy as np
import pytest
import torch

from usvs.data.gaze_table import fixated_pixels, gaze_density, gaze_frames
from usvs.data.settings import AugmentSettings
from usvs.data.transforms import draw_augment_params, transform_frames, transform_points
from usvs.errors import DataError
from usvs.models.preprocessing import identity_params
from usvs.store.prepared import PreparedStore
from usvs.utils.permutation import counter_bits

NONE = (np.nan, np.nan)


def test_a_density_is_the_sum_of_gaussians_in_degrees():
    fixations = np.array([[(0.25, 0.5), (0.75, 0.25)], [(0.5, 0.5), NONE], [NONE, NONE], [(1.2, 0.5), (0.5, -0.1)]])
    sigma = np.tile([0.05, 0.1], (4, 1))
    found = gaze_density(fixations, sigma, 60, 80).double().numpy()
    y, x = np.mgrid[:60, :80]
    x, y = (x + 0.5) / 80, (y + 0.5) / 60
    bell = [np.exp(-(((x - a) / 0.05) ** 2) / 2 - (((y - b) / 0.1) ** 2) / 2) for a, b in fixations[0]]
    np.testing.assert_allclose(found[0], sum(bell) / np.sum(bell), atol=1e-7)
    assert found[:2].sum(axis=(1, 2)) == pytest.approx(1, abs=1e-5)
    assert not found[2:].any()
    assert np.unravel_index(found[1].argmax(), (60, 80)) in [(29, 39), (29, 40), (30, 39), (30, 40)]


def test_fixated_pixels():
    fixations = np.array([[(0.0, 0.0), (0.999, 0.999)], [(0.5, 0.25), (0.5, 0.25)], [NONE, (1.0, 0.5)]])
    found = fixated_pixels(fixations, 4, 8)
    assert found[0].nonzero().tolist() == [[0, 0], [3, 7]]
    assert found[1].nonzero().tolist() == [[1, 4]]
    assert not found[2].any()


@pytest.mark.parametrize("augmented", [True, False])
def test_fixations_move_with_the_frame(augmented):
    """A bright spot and a fixation on it stay together under every crop, flip and size."""
    settings, n = AugmentSettings(crop_fraction=0.7, gain_db=0.0), 40
    random = np.random.default_rng(0)
    points = random.uniform(0.35, 0.65, (n, 1, 2))  # inside of every crop
    y, x = np.mgrid[:90, :90]
    spot = [np.exp(-((x + 0.5 - 90 * a) ** 2 + (y + 0.5 - 90 * b) ** 2) / 18) for a, b in points[:, 0]]
    frames = (255 * np.stack(spot)).astype(np.uint8)
    params = draw_augment_params(counter_bits(7, np.arange(n), 0), settings) if augmented else identity_params(n)
    pictures = transform_frames(frames, params, 64, settings.crop_fraction)[:, 0].double()
    moved = transform_points(points, params, 90, 64, settings.crop_fraction)[:, 0]
    weight = pictures - pictures.amin(dim=(1, 2), keepdim=True)
    total = weight.sum(dim=(1, 2))
    centre = (torch.arange(64) + 0.5) / 64
    found = torch.stack(
        [(weight.sum(dim=1) @ centre.double()) / total, (weight.sum(dim=2) @ centre.double()) / total], 1
    )
    np.testing.assert_allclose(found.numpy(), moved, atol=0.01)


def test_frames_with_fixations_are_listed_with_those_of_the_window(gaze_store):
    store = PreparedStore(gaze_store)
    table = gaze_frames(store, stride=4, window_seconds=0.04, sigma_degrees=0.5)
    assert table.fixations.shape[1:] == (3, 2)  # the frame itself and one on either side
    scan = store.scan(int(table.frames.scan[2]))
    number = int(table.frames.frame[2])
    np.testing.assert_allclose(table.fixations[2], scan.gaze[number - 1 : number + 2], atol=1e-7)
    np.testing.assert_allclose(table.sigma, np.tile([0.05, 0.06], (len(table), 1)))
    assert set(table.frames.frame.tolist()) <= set(range(0, 24, 4))
    assert np.isfinite(table.fixations[..., 0]).any(axis=1).all()
    alone = gaze_frames(store, stride=4, window_seconds=0.0, sigma_degrees=0.5)
    assert alone.fixations.shape[1] == 1 and len(alone) < len(table)  # in a blink the frame itself has no fixation


def test_a_store_without_gaze_is_refused(grating_store):
    with pytest.raises(DataError, match="no scan of this store has gaze"):
        gaze_frames(PreparedStore(grating_store), 8, 0.1, 1.0)
