"""Batched log-power spectrograms of waveforms, resized in time.

Notation: B clips of S samples, N = n_fft, F = 1 + S // hop_length frames of the transform.
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

    Steps: a periodic Hann window of `win_length` samples, zero-padded on both sides to `n_fft`; frames every
    `hop_length` samples, centred, with reflection padding; power |X|^2; the DC band dropped; ln(power + eps); linear
    resizing of the time axis from F to `frames` (as `torch.nn.functional.interpolate` with align_corners=False).
    Equivalent to `log_spectrogram_reference`. The defaults are those of Jiao et al. (MICCAI 2020, section 3.1) at
    24 kHz. Differentiable with respect to `waveform`.

    Silence gives ln(eps), as do samples whose squares underflow. A column depends only on the samples in the windows of
    the one or two frames that it is interpolated from: a NaN or an infinity makes all bands of these columns NaN, a
    power that overflows, `eps` included, its band of them, and neither changes anything else.

    Args:
        waveform: [B, S] float32 or float64, on a CPU or a GPU; a strided view is not copied. With `offsets`: one
            recording [samples], from which the clips are read without copying.
        n_fft: samples of the transform, a power of two in 64 .. 4096.
        win_length: samples of the window, at most `n_fft`.
        hop_length: samples between frames.
        frames: columns of the result.
        eps: added to the power; at least the smallest normal float32.
        offsets: [B] int64, first sample of each clip in the recording; clips may overlap. The result is that of copies
            `recording[offset : offset + length]`: padding reflects the clip, not the recording.
        length: S, samples per clip; required with `offsets`.
        dtype: of the result: that of the waveform (default), or bfloat16 for a float32 waveform, rounded to nearest
            even.
        out: tensor [B, 1, n_fft // 2, frames] that the result is written to; its dtype takes the place of `dtype`. Not
            differentiable.

    Returns:
        [B, 1, n_fft // 2, frames], natural logarithm of power; row 0 is the lowest band. `out` if given.

    Raises:
        RuntimeError: for an argument out of range, an `out` on another device or in the memory of `waveform` or
            `offsets`, S <= (win_length + 1) // 2, which is too short for reflection padding, or, on a CPU, a clip
            outside of the recording. On a GPU, where reading `offsets` would make the host wait, such a clip is NaN and
            adds nothing to the gradient of the recording.
    """
    if out is None:
        spectrogram: Tensor = torch.ops.usvs.log_spectrogram(
            waveform, n_fft, win_length, hop_length, frames, eps, offsets, length, dtype
        )
        return spectrogram
    if dtype is not None and dtype != out.dtype:
        raise RuntimeError("usvs::log_spectrogram: dtype: expected that of out, or none, got another")
    if torch.is_grad_enabled() and (waveform.requires_grad or out.requires_grad):
        raise RuntimeError(
            "usvs::log_spectrogram: out: expected no gradient through it, got a waveform or an out that requires one"
        )
    if out.is_meta != waveform.is_meta:  # without data nothing would be written
        raise RuntimeError("usvs::log_spectrogram: out: expected the device of waveform, got one of them on 'meta'")
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        torch.ops.usvs.log_spectrogram(waveform, n_fft, win_length, hop_length, frames, eps, offsets, length, out=out)
    else:  # naming the overload avoids overload resolution, half of the time of a call
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
    """Compute `log_spectrogram` in plain torch; same arguments and result."""
    if offsets is not None and length is not None:
        waveform = waveform[offsets[:, None] + torch.arange(length, device=waveform.device)]
    window = torch.hann_window(win_length, dtype=waveform.dtype, device=waveform.device)
    half = n_fft // 2 - (n_fft - win_length) // 2
    padded = F.pad(waveform[:, None], (half, half), mode="reflect")[:, 0]
    # As torch.stft, except that samples outside of the window are not read: it multiplies them by 0, which keeps a NaN.
    # That the window starts the frame instead of being its middle changes phases only.
    count = 1 + waveform.shape[1] // hop_length  # F
    spectrum = torch.fft.rfft(padded.unfold(1, win_length, hop_length)[:, :count] * window, n_fft)
    power = spectrum[..., 1:].abs().square() + eps  # [B, F, N / 2]
    logarithm = power.log() + (power - power)  # NaN where the power is not finite
    spectrogram = _resize_time(logarithm, frames).transpose(1, 2).unsqueeze(1)
    if out is not None:
        return out.copy_(spectrogram)
    return spectrogram if dtype is None else spectrogram.to(dtype)


def _resize_time(logarithm: Tensor, frames: int) -> Tensor:
    """Resize [B, F, bands] to [B, frames, bands] as `torch.nn.functional.interpolate` (linear, align_corners=False).

    Positions are exact in integers, and a column that is exactly at a frame reads that frame alone.
    """
    count, unit = logarithm.shape[1], 2 * frames
    columns = torch.arange(frames, device=logarithm.device)
    numerator = ((2 * columns + 1) * count - frames).clamp(0, unit * (count - 1))
    low = numerator // unit
    rest = numerator - low * unit
    weight = (rest.double() / unit).to(logarithm.dtype)[:, None]
    return torch.lerp(logarithm[:, low], logarithm[:, low + (rest > 0)], weight)


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
    # The dispatcher omits arguments that equal the schema's defaults, so the defaults are repeated here.
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
