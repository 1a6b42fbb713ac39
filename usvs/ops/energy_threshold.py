"""The recursion of the energy detector of speech: what each moment's energy is held against."""

import torch
from torch import Tensor

ADAPTIVE = -1.0


def energy_threshold(
    energy: Tensor,  # [B, T] float64
    ratio: float = 2.0,
    silence: float = 1e-4,
    growth: float = 1.0001,
    growth_of_growth: float = 1.0,
    scaling: float = ADAPTIVE,
) -> Tensor:
    """Return the threshold of each frame of B recordings (K. Sakhnov et al., IAENG IJCS 36:4, 2009).

    Emax is the highest energy so far. Emin drops to every energy below it and is raised by a factor each frame:
    `growth` times `growth_of_growth` for every frame since it dropped last. The threshold is (1 - l) Emax + l Emin,
    where l is `scaling` or, adaptive, (Emax - Emin) / Emax; that is Emin (2 - Emin / Emax), and `ratio` stands for
    the 2. Equal to `energy_threshold_reference`.

    Args:
        energy: RMS of each frame, full scale 1.
        ratio: threshold over floor where the floor is far below the highest energy.
        silence: Emin and Emax never lie below this: digital silence would pin the floor to zero.
        growth: of the floor, a frame.
        growth_of_growth: of the growth, a frame; 1: it stays.
        scaling: l in 0 .. 1, or below 0: adaptive.

    Returns:
        [B, T] float64.

    Raises:
        RuntimeError: for another shape or dtype, or a number out of range.
    """
    threshold: Tensor = torch.ops.usvs.energy_threshold(energy, ratio, silence, growth, growth_of_growth, scaling)
    return threshold


def energy_threshold_reference(
    energy: Tensor,  # [B, T] float64
    ratio: float = 2.0,
    silence: float = 1e-4,
    growth: float = 1.0001,
    growth_of_growth: float = 1.0,
    scaling: float = ADAPTIVE,
) -> Tensor:
    """Say in plain torch what `energy_threshold` computes; arguments and result are the same."""
    lowest, highest = torch.full_like(energy[:, 0], torch.inf), torch.full_like(energy[:, 0], silence)
    factor = torch.full_like(lowest, growth)
    threshold = torch.empty_like(energy)
    for t, value in enumerate(energy.unbind(1)):
        highest = torch.where(value > highest, value, highest)
        drops = value < lowest
        lowest = torch.where(drops, value.clamp(min=silence), lowest)
        factor = torch.where(drops, growth, factor)
        highest = torch.maximum(highest, lowest)
        adaptive = lowest * (ratio - (ratio - 1.0) * lowest / highest)
        threshold[:, t] = adaptive if scaling < 0 else (1.0 - scaling) * highest + scaling * lowest
        lowest = lowest * factor
        factor = factor * growth_of_growth
    return threshold


def _fake(
    energy: Tensor, ratio: float, silence: float, growth: float, growth_of_growth: float, scaling: float
) -> Tensor:
    return torch.empty_like(energy)


torch.library.register_fake("usvs::energy_threshold", _fake)
