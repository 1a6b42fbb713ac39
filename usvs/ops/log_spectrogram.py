"""Batched log-spectrograms: waveform in, picture out.

B clips, S samples, N = n_fft, F = frames of the transform = 1 + S // hop_length.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def log_spectrogram(
    waveform: Tensor,  # [B, S]
    n_fft: int = 512,
    win_length: int = 240,
    hop_length: int = 120,
    frames: int = 256,
    eps: float = 1e-6,
) -> Tensor:
    """Return the log-power spectrograms of a batch of waveforms, resized in time.

    A periodic Hann window of `win_length` samples, zero-padded in the middle of `n_fft`; frames every `hop_length`
    samples, centred, the ends reflected; |X|^2; the constant band dropped; ln(power + eps); the time axis resized
    linearly from F to `frames` (as `torch.nn.functional.interpolate` with align_corners=False). Equivalent to
    `log_spectrogram_reference`. The defaults are the paper's (Jiao et al., MICCAI 2020, section 3.1) at 24 kHz.

    A column depends on no samples but those of the one or two frames it lies between, so a NaN or an infinity reaches
    no other column; silence gives ln(eps).

    Args:
        waveform: [B, S] float32 or float64; rows may lie anywhere (a strided view of one recording is not copied).
        n_fft: samples of the transform, a power of two in 64 ... 4096.
        win_length: samples of the window, at most `n_fft`.
        hop_length: samples between frames.
        frames: columns of the result.
        eps: added to the power.

    Returns:
        [B, 1, n_fft // 2, frames] in natural-log units, of the waveform's dtype; row 0 is the lowest band.

    Raises:
        RuntimeError: for an argument out of range, or S <= n_fft // 2 (too short to reflect).
    """
    picture: Tensor = torch.ops.usvs.log_spectrogram(waveform, n_fft, win_length, hop_length, frames, eps)
    return picture


def log_spectrogram_reference(
    waveform: Tensor,  # [B, S]
    n_fft: int = 512,
    win_length: int = 240,
    hop_length: int = 120,
    frames: int = 256,
    eps: float = 1e-6,
) -> Tensor:
    """Say in plain torch what `log_spectrogram` computes; arguments and result are the same."""
    window = torch.hann_window(win_length, dtype=waveform.dtype, device=waveform.device)
    spectrum = torch.stft(waveform, n_fft, hop_length, win_length, window, center=True, return_complex=True)
    power = spectrum[:, 1:].abs().square()  # [B, N / 2, F]
    return F.interpolate((power + eps).log(), size=frames, mode="linear", align_corners=False).unsqueeze(1)


def _fake(
    waveform: Tensor,
    n_fft: int = 512,
    win_length: int = 240,
    hop_length: int = 120,
    frames: int = 256,
    eps: float = 1e-6,
) -> Tensor:
    # The dispatcher leaves out arguments that equal the schema's defaults, so the defaults stand here too.
    return waveform.new_empty(waveform.shape[0], 1, n_fft // 2, frames)


torch.library.register_fake("usvs::log_spectrogram", _fake)


def _fake_backward(
    grad: Tensor, waveform: Tensor, n_fft: int, win_length: int, hop_length: int, frames: int, eps: float
) -> Tensor:
    return waveform.new_empty(waveform.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    waveform, *ctx.settings = inputs
    ctx.save_for_backward(waveform)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (waveform,) = ctx.saved_tensors
    return torch.ops.usvs.log_spectrogram_backward(grad, waveform, *ctx.settings), None, None, None, None, None


torch.library.register_fake("usvs::log_spectrogram_backward", _fake_backward)


torch.library.register_autograd("usvs::log_spectrogram", _backward, setup_context=_setup_context)
