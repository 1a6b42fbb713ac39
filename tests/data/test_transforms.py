"""Augmentation parameters depend on keys alone, are equal for the order frames; evaluation has no randomness."""

import numpy as np
import pytest
import torch

from usvs.data.settings import AugmentSettings
from usvs.data.transforms import (
    draw_augment_params,
    draw_shared_augment_params,
    evaluation_frames,
    training_frames,
    transform_frames,
    transform_points,
)
from usvs.errors import ConfigError
from usvs.models.preprocessing import GRAY_MEAN, GRAY_SPREAD, AugmentParams

SETTINGS = AugmentSettings()
PLAIN = AugmentSettings(crop_fraction=1.0, flip=False, gain_db=0.0)
KEYS = np.random.default_rng(0).integers(0, 2**63, 4000).astype(np.uint64)


def coordinates(side: int) -> np.ndarray:
    """Two frames whose gray levels are the column and the row."""
    column = np.broadcast_to(np.arange(side, dtype=np.uint8), (side, side))
    return np.stack([column, column.T])


def gray(frames: torch.Tensor) -> np.ndarray:
    return (frames.numpy() * GRAY_SPREAD + GRAY_MEAN) * 255


def make_params(
    top: float = 0, left: float = 0, flip: bool = False, gain: float = 1, shift: tuple = (0, 0), zoom: float = 1
):
    numbers = (np.full(2, value) for value in (top, left, flip, gain))
    return AugmentParams(*numbers, np.tile(shift, (2, 1)), np.full(2, zoom))


def test_without_augmentation_the_result_is_the_frame():
    frames = np.random.default_rng(1).integers(0, 256, (5, 64, 64), np.uint8)
    for result in (training_frames(frames, KEYS[:5], 64, PLAIN), evaluation_frames(frames, 64, PLAIN)):
        assert result.shape == (5, 1, 64, 64)
        assert result.dtype == torch.float32
        assert result.is_contiguous()
        assert np.allclose(gray(result)[:, 0], frames, atol=1e-3)


def test_crop_is_where_the_params_say():
    for top, left, corner in ((0, 0, (0, 0)), (0.999, 0, (8, 0)), (0.5, 0.2, (4, 1))):
        result = gray(transform_frames(coordinates(72), make_params(top, left), 64, 64 / 72))
        assert np.allclose(result[0, 0, 0], corner[1] + np.arange(64), atol=1e-3)
        assert np.allclose(result[1, 0, :, 0], corner[0] + np.arange(64), atol=1e-3)
    shifted = gray(transform_frames(coordinates(72), make_params(0.5, 0.5, shift=(-2, 30)), 64, 64 / 72))
    assert np.allclose(shifted[:, 0, 0, 0], [8, 2], atol=1e-3), "clipped to the frame"


def test_zoom_makes_the_crop_smaller_and_keeps_it_inside():
    frames = coordinates(128)
    for zoom, corner in ((1, 0), (2, 64)):  # the lowest and rightmost crop; 128 and 64 pixels a side
        result = gray(transform_frames(frames, make_params(0.999, 0.999, zoom=zoom), 64, 1.0))
        middle = corner + (np.arange(64) + 0.5) * (128 - corner) / 64 - 0.5
        for line in (result[0, 0, 0], result[1, 0, :, 0]):
            assert np.allclose(line[:-1], middle[:-1], atol=1e-3), "the last pixel is clamped to the frame"


def test_frames_of_different_zooms_are_each_as_alone():
    frames = np.random.default_rng(2).integers(0, 256, (5, 72, 72), np.uint8)
    params = draw_augment_params(KEYS[:5], AugmentSettings(zoom=1.6))
    assert 1 <= params.zoom.min() < params.zoom.max() <= 1.6
    together = transform_frames(frames, params, 64, 0.9)
    for row in range(5):
        alone = AugmentParams(*(values[row : row + 1] for values in params))
        assert torch.equal(transform_frames(frames[row : row + 1], alone, 64, 0.9)[0], together[row])


def test_points_move_with_zoomed_frames():
    frames = np.zeros((2, 64, 64), np.uint8)
    frames[:, 40, 30] = 255
    params = make_params(0.8, 0.6, zoom=1.5, flip=True)
    found = transform_frames(frames, params, 64, 1.0)[0, 0]
    row, column = divmod(int(found.argmax()), 64)
    point = np.array([[[30.5 / 64, 40.5 / 64]]] * 2)
    x, y = transform_points(point, params, 64, 64, 1.0)[0, 0] * 64
    assert abs(x - column - 0.5) <= 0.6 and abs(y - row - 0.5) <= 0.6


def test_order_frames_are_not_zoomed():
    assert np.all(draw_shared_augment_params(KEYS[:3], 4, AugmentSettings(zoom=2.0)).zoom == 1)


def test_without_zoom_the_other_numbers_are_as_before():
    plain, zoomed = (draw_augment_params(KEYS, AugmentSettings(zoom=z)) for z in (1.0, 2.0))
    assert np.all(plain.zoom == 1)
    for name in ("top", "left", "flip", "gain"):
        assert np.array_equal(getattr(plain, name), getattr(zoomed, name))


def test_flip_mirrors_left_and_right_only():
    plain = transform_frames(coordinates(72), make_params(0.3, 0.1), 64, 0.9)
    mirrored = transform_frames(coordinates(72), make_params(0.3, 0.1, flip=True), 64, 0.9)
    assert torch.equal(mirrored, plain.flip(-1))
    assert not torch.equal(mirrored, plain)


def test_gain_multiplies_and_saturates():
    frames = np.full((2, 64, 64), 200, np.uint8)
    assert np.allclose(gray(transform_frames(frames, make_params(gain=1.2), 64, 1.0)), 240, atol=1e-3)
    assert np.allclose(gray(transform_frames(frames, make_params(gain=1.4), 64, 1.0)), 255, atol=1e-3)


def test_resizing_keeps_the_picture():
    ramp = gray(evaluation_frames(coordinates(100), 50, AugmentSettings(crop_fraction=1.0)))[0, 0, 0]
    assert np.allclose(ramp, 2 * np.arange(50) + 0.5, atol=0.51)
    centre = gray(evaluation_frames(coordinates(100), 64, SETTINGS))[0, 0, 0]
    assert abs(centre.mean() - 49.5) < 0.5, "the centre is cropped"


def test_draws_cover_their_ranges():
    drawn = draw_augment_params(KEYS, SETTINGS)
    for position in (drawn.top, drawn.left):
        assert 0 <= position.min() < 0.01
        assert 0.99 < position.max() < 1
    assert 0.45 < drawn.flip.mean() < 0.55
    decibels = 20 * np.log10(drawn.gain)
    assert -2 <= decibels.min() < -1.98
    assert 1.98 < decibels.max() <= 2
    assert abs(np.corrcoef(drawn.top, drawn.left)[0, 1]) < 0.06
    assert not draw_augment_params(KEYS, AugmentSettings(flip=False)).flip.any()


def test_a_frame_depends_on_its_key_only():
    frames = np.random.default_rng(2).integers(0, 256, (6, 72, 72), np.uint8)
    together = training_frames(frames, KEYS[:6], 64, SETTINGS)
    for i in (5, 0, 3):
        assert torch.equal(training_frames(frames[i : i + 1], KEYS[i : i + 1], 64, SETTINGS)[0], together[i])
    assert not torch.equal(training_frames(frames, KEYS[6:12], 64, SETTINGS), together)


def test_order_frames_are_varied_as_one():
    shared = draw_shared_augment_params(KEYS[:50], 4, SETTINGS)
    for values in shared:
        groups = values.reshape(50, 4, -1)
        assert np.all(groups == groups[:, :1])
    one = np.random.default_rng(3).integers(0, 256, (1, 72, 72), np.uint8)
    result = transform_frames(np.repeat(one, 8, axis=0), draw_shared_augment_params(KEYS[:2], 4, SETTINGS), 64, 0.9)
    assert all(torch.equal(result[0], result[i]) for i in range(4))
    assert all(torch.equal(result[4], result[i]) for i in range(4, 8))
    assert not torch.equal(result[0], result[4])


def test_order_jitter_moves_each_frame_within_reach():
    shift = draw_shared_augment_params(KEYS, 4, AugmentSettings(order_jitter_pixels=2)).shift
    assert sorted(set(shift.ravel().tolist())) == [-2, -1, 0, 1, 2]
    assert np.any(shift[:4] != shift[0])


def test_frames_smaller_than_asked_are_refused():
    with pytest.raises(ConfigError, match=r"expected at least 64 pixels a side \(model.frame_pixels\), got 48; set"):
        evaluation_frames(np.zeros((1, 48, 48), np.uint8), 64, SETTINGS)
    with pytest.raises(ConfigError, match="got 72; the store was prepared for --profile quick or --profile small: add"):
        evaluation_frames(np.zeros((1, 72, 72), np.uint8), 224, SETTINGS)
