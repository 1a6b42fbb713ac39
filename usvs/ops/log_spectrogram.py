"""Batched log-spectrograms: waveform in, picture out.

B clips, S samples a clip, N = n_fft, F = frames of the transform = 1 + S // hop_length.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def log_spectrogram(
    waveform: Tensor,  # [B, S], or with offsets [recording samples]
    n_fft: int = 512,
    win_length: int = 240,
    hop_length: int = 120,
    frames: int = 256,
    eps: float = 1e-6,
    offsets: Tensor | None = None,  # [B]
    length: int | None = None,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,  # [B, 1, N / 2, frames]
) -> Tensor:
    """Return the log-power spectrograms of a batch of waveforms, resized in time.

    A periodic Hann window of `win_length` samples, zero-padded in the middle of `n_fft`; frames every `hop_length`
    samples, centred, the ends reflected; |X|^2; the constant band dropped; ln(power + eps); the time axis resized
    linearly from F to `frames` (as `torch.nn.functional.interpolate` with align_corners=False). Equivalent to
    `log_spectrogram_reference`. The defaults are the paper's (Jiao et al., MICCAI 2020, section 3.1) at 24 kHz.

    Silence gives ln(eps), and so do samples whose squares underflow, denormal ones among them. A column depends on no
    samples but those under the windows of the one or two frames it lies between, so a NaN or an infinity makes those
    columns NaN (or infinite) and reaches no other; so does a power that overflows.

    Args:
        waveform: [B, S] float32 or float64; rows may lie anywhere (a strided view of one recording is not copied).
            With `offsets`, one recording of any length, of which pieces are read where they lie.
        n_fft: samples of the transform, a power of two in 64 ... 4096.
        win_length: samples of the window, at most `n_fft`.
        hop_length: samples between frames.
        frames: columns of the result.
        eps: added to the power; at least the smallest normal float32.
        offsets: [B] int64, samples of the recording where the clips start; they may overlap. Each clip is what a copy
            of `recording[offset : offset + length]` would be: its ends are reflected, not continued.
        length: S, samples of a clip, where `offsets` are given.
        dtype: of the result: the waveform's (default), or bfloat16 of a float32 waveform, rounded to nearest even.
        out: the result is written here, and no new memory is touched; its dtype decides. Not for differentiation.

    Returns:
        [B, 1, n_fft // 2, frames] in natural-log units; row 0 is the lowest band. `out` where it was given.

    Raises:
        RuntimeError: for an argument out of range, a piece that lies outside of the recording (on a CPU; a GPU does not
            look), or S <= (win_length + 1) // 2, too short to reflect: a window's length is always enough.
    """
    if out is None:
        picture: Tensor = torch.ops.usvs.log_spectrogram(
            waveform, n_fft, win_length, hop_length, frames, eps, offsets, length, dtype
        )
        return picture
    if dtype is not None and dtype != out.dtype:
        raise RuntimeError("usvs::log_spectrogram: dtype: expected that of out, or none, got another")
    if torch.is_grad_enabled() and waveform.requires_grad:
        raise RuntimeError(
            "usvs::log_spectrogram: out: expected no gradient through it, got a waveform that requires one"
        )
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        torch.ops.usvs.log_spectrogram(waveform, n_fft, win_length, hop_length, frames, eps, offsets, length, out=out)
    else:  # named, this overload is found without trying the other: half of what a call costs
        torch.ops.usvs.log_spectrogram.out(
            waveform, n_fft, win_length, hop_length, frames, eps, offsets, length, out=out
        )
    return out


def log_spectrogram_reference(
    waveform: Tensor,  # [B, S], or with offsets [recording samples]
    n_fft: int = 512,
    win_length: int = 240,
    hop_length: int = 120,
    frames: int = 256,
    eps: float = 1e-6,
    offsets: Tensor | None = None,  # [B]
    length: int | None = None,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,  # [B, 1, N / 2, frames]
) -> Tensor:
    """Say in plain torch what `log_spectrogram` computes; arguments and result are the same."""
    if offsets is not None and length is not None:
        waveform = waveform[offsets[:, None] + torch.arange(length, device=waveform.device)]
    window = torch.hann_window(win_length, dtype=waveform.dtype, device=waveform.device)
    reach = n_fft // 2 - (n_fft - win_length) // 2  # what a window covers is reflected; the rest has no weight
    padded = F.pad(waveform[:, None], (reach, reach), mode="reflect")[:, 0]
    padded = F.pad(padded, (n_fft // 2 - reach, n_fft // 2 - reach))
    spectrum = torch.stft(padded, n_fft, hop_length, win_length, window, center=False, return_complex=True)
    power = spectrum[:, 1:].abs().square()  # [B, N / 2, F]
    picture = F.interpolate((power + eps).log(), size=frames, mode="linear", align_corners=False).unsqueeze(1)
    if out is not None:
        return out.copy_(picture)
    return picture if dtype is None else picture.to(dtype)


def _fake(
    waveform: Tensor,
    n_fft: int = 512,
    win_length: int = 240,
    hop_length: int = 120,
    frames: int = 256,
    eps: float = 1e-6,
    offsets: Tensor | None = None,
    length: int | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    # The dispatcher leaves out arguments that equal the schema's defaults, so the defaults stand here too.
    clips = waveform.shape[0] if offsets is None else offsets.shape[0]
    return waveform.new_empty(clips, 1, n_fft // 2, frames, dtype=dtype)


torch.library.register_fake("usvs::log_spectrogram", _fake)


def _fake_out(waveform: Tensor, *settings: Any, out: Tensor) -> None:
    return None


torch.library.register_fake("usvs::log_spectrogram.out", _fake_out)


def _fake_backward(grad: Tensor, waveform: Tensor, *settings: Any) -> Tensor:
    return waveform.new_empty(waveform.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    waveform, *ctx.settings, offsets, ctx.length, _dtype = inputs
    ctx.save_for_backward(waveform, offsets)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    waveform, offsets = ctx.saved_tensors
    waveform_grad = torch.ops.usvs.log_spectrogram_backward(
        grad.to(waveform.dtype), waveform, *ctx.settings, offsets, ctx.length
    )
    return waveform_grad, *(None,) * 8


torch.library.register_fake("usvs::log_spectrogram_backward", _fake_backward)


torch.library.register_autograd("usvs::log_spectrogram", _backward, setup_context=_setup_context)
