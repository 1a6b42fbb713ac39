"""Preprocessing of any images equals the evaluation of prepared frames."""

import numpy as np
import pytest
import torch
from PIL import Image

from usvs.data.settings import AugmentSettings
from usvs.data.transforms import evaluation_frames
from usvs.errors import DataError
from usvs.models.encoder import make_pretrained_cfg
from usvs.models.preprocessing import (
    CROP_FRACTION,
    GRAY_MEAN,
    GRAY_SPREAD,
    CropGrid,
    identity_params,
    preprocess_images,
)
from usvs.models.settings import FRAME_PIXELS, ModelSettings


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("side", [64, 100, 160, 300])
@pytest.mark.parametrize("crop_fraction", [0.9, 1.0])
def test_square_gray_frames_are_those_of_evaluation(side: int, crop_fraction: float):
    frames = draw(3, side, side)
    expected = evaluation_frames(frames, 64, AugmentSettings(crop_fraction=crop_fraction))
    assert torch.equal(preprocess_images(frames, 64, crop_fraction), expected)


def test_the_defaults_are_those_of_the_settings():
    assert AugmentSettings().crop_fraction == CROP_FRACTION
    assert ModelSettings().frame_pixels == FRAME_PIXELS
    cfg = make_pretrained_cfg()
    assert cfg["input_size"] == (1, 224, 224) and cfg["crop_fraction"] == 0.9
    assert (cfg["mean"], cfg["std"]) == ((GRAY_MEAN,), (GRAY_SPREAD,))


def test_every_layout_gives_the_same():
    gray = draw(2, 80, 80)
    expected = preprocess_images(gray, 64)
    colours = np.repeat(gray[..., None], 3, axis=3)
    for images in (
        torch.from_numpy(gray),
        gray[..., None],  # [n, H, W, 1]
        gray[:, None],  # [n, 1, H, W]
        colours,  # [n, H, W, 3]
        torch.from_numpy(colours).permute(0, 3, 1, 2),  # [n, 3, H, W]
        list(gray),  # [H, W] each
        list(colours),  # [H, W, 3] each
        tuple(torch.from_numpy(gray)),
        [Image.fromarray(one) for one in gray],
        [Image.fromarray(one) for one in colours],
        [Image.fromarray(one).convert("RGBA") for one in colours],
        [gray[0], Image.fromarray(colours[1])],
    ):
        assert torch.equal(preprocess_images(images, 64), expected)
    assert torch.equal(preprocess_images(gray[0], 64), expected[:1])
    read_only = np.frombuffer(gray.tobytes(), np.uint8).reshape(gray.shape)
    assert torch.equal(preprocess_images(read_only, 64), expected)


def test_colour_is_the_rounded_mean_of_the_channels():
    colours = draw(2, 64, 64, 3, seed=1)
    mean = np.rint(colours.astype(np.float64).mean(axis=3)).astype(np.uint8)
    assert torch.equal(preprocess_images(colours, 64), preprocess_images(mean, 64))


def test_the_central_square_of_an_oblong_image_is_used():
    wide = draw(60, 101)
    assert torch.equal(preprocess_images(wide, 32), preprocess_images(wide[:, 20:80], 32))
    assert torch.equal(preprocess_images(wide.T, 32), preprocess_images(wide.T[20:80], 32))


def test_sizes_may_differ_and_small_images_are_enlarged():
    large, small = draw(200, 200), np.tile(np.arange(40, dtype=np.uint8), (40, 1))
    both = preprocess_images([large, small], 64, 1.0)
    assert both.shape == (2, 1, 64, 64)
    levels = (both[1, 0, 0] * GRAY_SPREAD + GRAY_MEAN).double() * 255
    expected = ((torch.arange(64) + 0.5) * 40 / 64 - 0.5).clamp(0, 39)
    torch.testing.assert_close(levels, expected.double(), rtol=0, atol=0.6)
    assert preprocess_images(draw(1, 1), 224).shape == (1, 1, 224, 224)


def test_a_grid_is_never_larger_than_the_crop():
    for side in range(2, 400, 7):
        grid = CropGrid.fit(side, 64, 0.9)
        (extent,) = grid.extents(identity_params(1))
        assert 0 < extent <= max(round(0.9 * side), 64 / 128)
        lowest = identity_params(1)._replace(top=np.array([0.9999]))
        assert grid.corners(lowest)[0, 0] == side - int(np.ceil(extent))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 8, 8), np.float32), "expected uint8 gray levels or RGB in 0 .. 255, got float32"),
        (torch.zeros(2, 8, 8), "got float32"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"got \[2, 8, 8, 4\]"),
        (np.zeros(8, np.uint8), r"got \[8\]"),
        (np.zeros((2, 0, 8), np.uint8), "at least one pixel a side"),
        (np.zeros((0, 8, 8), np.uint8), "expected at least one, got none"),
        ([], "expected at least one, got none"),
        (Image.new("I;16", (8, 8)), "8 bits a channel, got mode 'I;16'"),
    ],
)
def test_other_input_is_refused(images, words: str):
    with pytest.raises(DataError, match=words):
        preprocess_images(images, 8)
