"""How loud a recording is, frame by frame, above hum and rumble."""

import math

import torch
from torch import Tensor


def frame_energy(
    waveform: Tensor,  # [B, S] float32
    length: int,
    high_pass: float = 0.0,
) -> Tensor:
    """Return the RMS of each whole frame of B recordings, after a Butterworth high-pass of order 2.

    The filter is the bilinear transform's; it begins as if the first frame's mean had been there for ever. Equal to
    `frame_energy_reference` to the rounding of float64.

    Args:
        waveform: samples.
        length: samples a frame.
        high_pass: where the filter's gain is 3 dB below 1, in cycles a sample; 0: each recording's mean over its whole
            frames is taken off, and nothing else.

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
    """Say in plain torch what `frame_energy` computes; arguments and result are the same."""
    frames = waveform.shape[1] // length
    heard = waveform[:, : frames * length].double()
    if high_pass == 0:
        heard = heard - heard.mean(1, keepdim=True)
    elif frames:
        heard = _high_passed(heard, high_pass, heard[:, :length].mean(1))
    return heard.view(-1, frames, length).square().mean(2).sqrt()


def _high_passed(samples: Tensor, cycles: float, level: Tensor) -> Tensor:
    warped = math.tan(math.pi * cycles)
    gain = 1 / (1 + math.sqrt(2) * warped + warped**2)
    one_back, two_back = 2 * (warped**2 - 1) * gain, (1 - math.sqrt(2) * warped + warped**2) * gain
    heard = torch.empty_like(samples)
    last = before = level  # samples in, one and two ago
    one = two = torch.zeros_like(level)  # and out
    for t, sample in enumerate(samples.unbind(1)):
        heard[:, t] = gain * (sample - 2 * last + before) - one_back * one - two_back * two
        last, before, one, two = sample, last, heard[:, t], one
    return heard


def _fake(waveform: Tensor, length: int, high_pass: float) -> Tensor:
    return waveform.new_empty((waveform.shape[0], waveform.shape[1] // length), dtype=torch.float64)


torch.library.register_fake("usvs::frame_energy", _fake)
