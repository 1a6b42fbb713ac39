"""`energy_threshold` equals its reference bit for bit, for every option."""

import numpy as np
import pytest
import torch

from usvs import ops


def draw(recordings: int = 5, frames: int = 700) -> torch.Tensor:
    random = np.random.default_rng(0)
    energy = 10 ** random.uniform(-5, -0.5, (recordings, frames))
    energy[0, :50] = 0.0  # digital silence
    energy[1] = np.sort(energy[1])[::-1]
    energy[2, 100] = np.nan
    return torch.from_numpy(energy)


@pytest.mark.parametrize("growth_of_growth", [1.0, 1.0001])
@pytest.mark.parametrize("scaling", [-1.0, 0.0, 0.97, 1.0])
@pytest.mark.parametrize("ratio", [2.0, 3.0])
def test_equal_to_the_reference(growth_of_growth: float, scaling: float, ratio: float):
    arguments = (draw(), ratio, 1e-4, 1.0003, growth_of_growth, scaling)
    assert torch.equal(ops.energy_threshold(*arguments), ops.energy_threshold_reference(*arguments))


def test_closed_form_of_the_paper():
    energy = draw()[3:4]
    found = ops.energy_threshold(energy, 2.0, 1e-9, 1.0)[0].numpy()
    known = energy[0].numpy()
    lowest, highest = np.minimum.accumulate(known), np.maximum.accumulate(known)
    scaling = (highest - lowest) / highest
    # the published form loses precision where the floor is far below the peak
    np.testing.assert_allclose(found, (1 - scaling) * highest + scaling * lowest, rtol=1e-10)


def test_recordings_are_independent():
    together = ops.energy_threshold(draw())
    for number, energy in enumerate(draw()):
        assert torch.equal(ops.energy_threshold(energy[None])[0], together[number])
    assert ops.energy_threshold(draw()[:, :0]).shape == (5, 0)


def test_opcheck():
    torch.library.opcheck(torch.ops.usvs.energy_threshold.default, (draw(), 2.0, 1e-4, 1.0, 1.0, -1.0))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.zeros(3, dtype=torch.float64),), "energy: expected shape"),
        ((torch.zeros(3, 2),), "energy: expected"),
        ((draw(), 0.0), "ratio: expected a finite number above 0"),
        ((draw(), 2.0, 0.0), "silence: expected"),
        ((draw(), 2.0, 1e-4, 1.0, 1.0, 1.5), "scaling: expected at most 1"),
    ],
)
def test_invalid_arguments_raise(arguments: tuple, words: str):
    with pytest.raises(RuntimeError, match=words):
        ops.energy_threshold(*arguments)
