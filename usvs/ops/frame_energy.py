"""RMS of the frames of a recording after a high-pass filter."""

import math

import torch
from torch import Tensor


def frame_energy(
    waveform: Tensor,  # [B, S] float32
    length: int,
    high_pass: float = 0.0,
) -> Tensor:
    """Return the RMS of each frame of B recordings, after a Butterworth high-pass filter of order 2.

    The filter is designed by the bilinear transform; its initial state is that of a constant input equal to the mean of
    the first frame. Equal to `frame_energy_reference` up to float64 rounding.

    Args:
        waveform: [B, S] float32 on the CPU; samples after the last complete frame are ignored.
        length: samples per frame.
        high_pass: cutoff (gain -3 dB) in cycles per sample, 0 .. 1/2; 0: no filter, the mean of each recording over its
            complete frames is subtracted instead.

    Returns:
        [B, S // length] float64, in the unit of the samples.

    Raises:
        RuntimeError: for another shape or dtype, a length below 1, or a high_pass outside of 0 .. 1/2.
    """
    energy: Tensor = torch.ops.usvs.frame_energy(waveform, length, high_pass)
    return energy


def frame_energy_reference(
    waveform: Tensor,  # [B, S] float32
    length: int,
    high_pass: float = 0.0,
) -> Tensor:
    """Compute `frame_energy` in plain torch; same arguments and result."""
    frames = waveform.shape[1] // length
    samples = waveform[:, : frames * length].double()
    if high_pass == 0:
        samples = samples - samples.mean(1, keepdim=True)
    elif frames:
        samples = _high_pass(samples, high_pass, samples[:, :length].mean(1))
    return samples.view(-1, frames, length).square().mean(2).sqrt()


def _high_pass(samples: Tensor, cutoff: float, initial: Tensor) -> Tensor:
    warped = math.tan(math.pi * cutoff)
    gain = 1 / (1 + math.sqrt(2) * warped + warped**2)
    a1, a2 = 2 * (warped**2 - 1) * gain, (1 - math.sqrt(2) * warped + warped**2) * gain
    filtered = torch.empty_like(samples)
    x1 = x2 = initial  # inputs one and two samples ago
    y1 = y2 = torch.zeros_like(initial)  # outputs one and two samples ago
    for t, sample in enumerate(samples.unbind(1)):
        filtered[:, t] = gain * (sample - 2 * x1 + x2) - a1 * y1 - a2 * y2
        x1, x2, y1, y2 = sample, x1, filtered[:, t], y1
    return filtered


def _fake(waveform: Tensor, length: int, high_pass: float) -> Tensor:
    return waveform.new_empty((waveform.shape[0], waveform.shape[1] // length), dtype=torch.float64)


torch.library.register_fake("usvs::frame_energy", _fake)
