"""`augment_frames` equals its reference bit for bit, at every SIMD level."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from usvs import ops


def draw(count: int, side: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (count, side, side), dtype=torch.uint8, generator=random)
    corner = torch.randint(0, side, (count, 2), generator=random)
    flip = torch.rand(count, generator=random) < 0.5
    return frames, corner, flip, torch.rand(count, generator=random) * 0.03


@pytest.mark.parametrize(
    ("side", "pixels", "step", "halvings"),
    [
        (256, 224, 131, 0),
        (72, 64, 130, 0),
        (64, 64, 128, 0),
        (50, 64, 99, 0),  # enlarged
        (200, 33, 255, 0),
        (101, 40, 300, 0),  # neighbours in a vector of pixels are further apart than two vectors
        (128, 33, 100, 1),
        (255, 16, 120, 3),
        (97, 5, 9, 4),
        (1, 1, 1, 0),
    ],
)
def test_equal_to_the_reference(simd: str, side: int, pixels: int, step: int, halvings: int):
    arguments = (*draw(9, side), pixels, step, halvings, 4.0, 1.0)
    varied = ops.augment_frames(*arguments)
    assert varied.shape == (9, 1, pixels, pixels)
    assert torch.equal(varied, ops.augment_frames_reference(*arguments))


@settings(max_examples=40, deadline=None)
@given(st.integers(16, 90), st.integers(1, 90), st.integers(1, 400), st.integers(0, 4), st.integers(0, 99))
def test_equal_to_the_reference_for_random_arguments(side: int, pixels: int, step: int, halvings: int, seed: int):
    arguments = (*draw(2, side, seed), pixels, step, halvings, 3.0, 0.5)
    assert torch.equal(ops.augment_frames(*arguments), ops.augment_frames_reference(*arguments))


def test_equal_to_bilinear_interpolation_in_float64():
    frames, corner, flip, _ = draw(1, 40, 3)
    slope, flip = torch.ones(1), torch.zeros_like(flip)
    corner[:] = torch.tensor([[3, 7]])
    level = ops.augment_frames(frames, corner, flip, slope, 30, 141, 0, 1e9, 0.0)[0, 0].double().numpy()
    at = (np.arange(30) + 0.5) * 141 / 128 - 0.5
    frame = frames[0].double().numpy()

    def along(values: np.ndarray, position: np.ndarray) -> np.ndarray:
        low = np.floor(position).astype(int)
        part = (position - low)[:, None]
        return values[low] * (1 - part) + values[low + 1] * part

    assert np.array_equal(level, along(along(frame, at + 3).T, at + 7).T)


def test_a_halved_frame_is_the_mean_of_its_blocks():
    frames, corner, flip, _ = draw(2, 16)
    halved = ops.augment_frames(frames, corner * 0, flip & False, torch.ones(2), 4, 32, 2, 1e9, 0.0)
    assert torch.equal(halved[:, 0], frames.double().view(2, 4, 4, 4, 4).mean((2, 4)).float())


@pytest.mark.slow
def test_opcheck():
    torch.library.opcheck(torch.ops.usvs.augment_frames.default, (*draw(2, 20), 16, 128, 0, 4.0, 1.0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({0: torch.zeros(2, 4, 5, dtype=torch.uint8)}, r"frames: expected shape \[n, S, S\]"),
        ({0: torch.zeros(2, 8, 8)}, "frames: expected"),
        ({1: torch.full((2, 2), 8)}, "corner: expected 0 ... 7, got 8"),
        ({1: torch.full((2, 2), -1)}, "corner: expected 0 ... 7, got -1"),
        ({2: torch.zeros(3, dtype=torch.bool)}, r"flip: expected shape \[2\]"),
        ({3: torch.zeros(2, dtype=torch.float64)}, "slope: expected"),
        ({4: 0}, "pixels: expected 1"),
        ({5: 0}, "step: expected 1"),
        ({6: 5}, "halvings: expected 0 ... 4, got 5"),
        ({6: 4}, "side of frames: expected 16"),
    ],
)
def test_invalid_arguments_raise(change: dict, words: str):
    arguments = [*draw(2, 8), 4, 128, 0, 4.0, 1.0]
    arguments[1] = torch.zeros(2, 2, dtype=torch.int64)
    for position, value in change.items():
        arguments[position] = value
    with pytest.raises(RuntimeError, match=words):
        ops.augment_frames(*arguments)


@pytest.mark.parametrize("ceiling", [4.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("offset", [1.0, math.nan, math.inf])
@pytest.mark.parametrize("pixels", [64, 5])  # in vectors, and without
def test_values_that_are_not_finite_are_as_in_the_reference(simd: str, ceiling: float, offset: float, pixels: int):
    frames, corner, flip, slope = draw(9, 72)
    frames[:, :40] = 0
    slope[:6] = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.02, 3e38])
    arguments = (frames, corner, flip, slope, pixels, 130, 0, ceiling, offset)
    expected = ops.augment_frames_reference(*arguments)
    torch.testing.assert_close(ops.augment_frames(*arguments), expected, rtol=0, atol=0, equal_nan=True)
