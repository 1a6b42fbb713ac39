"""Adaptive threshold of an energy-based voice activity detector."""

import torch
from torch import Tensor

ADAPTIVE = -1.0  # value of `scaling` that selects the adaptive factor


def energy_threshold(
    energy: Tensor,  # [B, T] float64
    ratio: float = 2.0,
    silence: float = 1e-4,
    growth: float = 1.0001,
    growth_of_growth: float = 1.0,
    scaling: float = ADAPTIVE,
) -> Tensor:
    """Return the energy above which each frame of B recordings counts as speech.

    Source: K. Sakhnov et al., "Approach for Energy-Based Voice Detector with Adaptive Scaling Factor", IAENG IJCS 36:4,
    2009. Emax is the highest energy so far. Emin is set to every energy below it, and multiplied each frame by `growth`
    times `growth_of_growth` for every frame since it was set. The threshold is (1 - l) Emax + l Emin, where l is
    `scaling` or, adaptive, (Emax - Emin) / Emax; the latter gives Emin (2 - Emin / Emax), in which `ratio` replaces
    the 2. Equal to `energy_threshold_reference`.

    Args:
        energy: [B, T] float64 on the CPU, RMS of each frame, full scale 1.
        ratio: threshold over Emin where Emin is far below Emax.
        silence: lower bound of Emin and Emax, full scale 1; without it digital silence would set Emin to 0.
        growth: factor of Emin, per frame.
        growth_of_growth: factor of that factor, per frame; 1: constant growth.
        scaling: l in 0 .. 1; below 0: adaptive.

    Returns:
        [B, T] float64, in the unit of `energy`.

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
    """Compute `energy_threshold` in plain torch; same arguments and result."""
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
