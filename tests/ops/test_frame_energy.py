"""`frame_energy` equals its reference and the definition of a Butterworth high-pass filter."""

import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfilt, sosfilt_zi

from usvs import ops


def draw(recordings: int = 3, samples: int = 1030) -> torch.Tensor:
    random = np.random.default_rng(0)
    level = np.array([0.0, 0.4, -0.2])[:recordings, None]
    return torch.from_numpy(level + 0.1 * random.standard_normal((recordings, samples))).float()


@pytest.mark.parametrize("high_pass", [0.0, 0.001, 150 / 16_000, 0.2, 0.45])
@pytest.mark.parametrize("length", [1, 7, 160, 1030])
def test_equal_to_the_reference(high_pass: float, length: int):
    found, expected = (op(draw(), length, high_pass) for op in (ops.frame_energy, ops.frame_energy_reference))
    assert found.shape == (3, 1030 // length)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("high_pass", [0.001, 150 / 16_000, 0.2])
def test_the_filter_is_a_butterworth_of_order_two(high_pass: float):
    waveform = draw().numpy().astype(np.float64)
    sections = butter(2, 2 * high_pass, "highpass", output="sos")
    state = sosfilt_zi(sections)[:, None] * waveform[:, :10].mean(1)[None, :, None]
    filtered, _ = sosfilt(sections, waveform, zi=state)
    expected = np.sqrt((filtered.reshape(3, -1, 10) ** 2).mean(2))
    np.testing.assert_allclose(ops.frame_energy(draw(), 10, high_pass).numpy(), expected, rtol=1e-8)


def test_recordings_and_frames_are_independent():
    together = ops.frame_energy(draw(), 160, 0.01)
    for number, waveform in enumerate(draw()):
        assert torch.equal(ops.frame_energy(waveform[None], 160, 0.01)[0], together[number])
    assert torch.equal(ops.frame_energy(draw()[:, :500], 160, 0.01), together[:, :3])
    assert ops.frame_energy(draw()[:, :159], 160, 0.01).shape == (3, 0)
    assert ops.frame_energy(draw()[:, 100:].t().contiguous().t()[:, :320], 160, 0.01).shape == (3, 2)


def test_opcheck():
    torch.library.opcheck(torch.ops.usvs.frame_energy.default, (draw(), 160, 0.01))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.zeros(3), 1), "waveform: expected shape"),
        ((torch.zeros(3, 2).double(), 1), "waveform: expected"),
        ((draw(), 0), "length: expected"),
        ((draw(), 160, 0.5), "high_pass: expected at least 0 and below 0.5, got 0.5"),
        ((draw(), 160, -0.1), "high_pass: expected"),
        ((draw(), 160, float("nan")), "high_pass: expected"),
    ],
)
def test_invalid_arguments_raise(arguments: tuple, words: str):
    with pytest.raises(RuntimeError, match=words):
        ops.frame_energy(*arguments)
