"""Other implementations of `usvs.ops.log_spectrogram`; each function prepares the transform of one batch.

All compute the same image: periodic Hann 240 in 512, hop 120, centred, reflected, power, ln(. + 1e-6), 121 -> 256.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

N_FFT, WIN_LENGTH, HOP_LENGTH, FRAMES, EPS = 512, 240, 120, 256, 1e-6
REACH = WIN_LENGTH // 2
Run = Callable[[], Tensor]


def finished(power: Tensor) -> Tensor:
    """Drop the constant band of power [B, 257, F], take the logarithm, resize."""
    return F.interpolate((power[:, 1:] + EPS).log(), size=FRAMES, mode="linear", align_corners=False).unsqueeze(1)


def stft_chain(waveform: Tensor) -> Tensor:
    """What one writes with torch alone: pad, torch.stft, log, interpolate."""
    window = torch.hann_window(WIN_LENGTH, dtype=waveform.dtype, device=waveform.device)
    padded = F.pad(waveform[:, None], (REACH, REACH), mode="reflect")[:, 0]
    padded = F.pad(padded, (N_FFT // 2 - REACH, N_FFT // 2 - REACH))
    spectrum = torch.stft(padded, N_FFT, HOP_LENGTH, WIN_LENGTH, window, center=False, return_complex=True)
    return finished(spectrum.abs().square())


def torch_stft(waveform: Tensor) -> Run:
    """Padding, torch.stft, log, interpolate."""
    return lambda: stft_chain(waveform)


def torch_unfold_rfft(waveform: Tensor) -> Run:
    """Frames as a strided view, one real FFT; the fastest form in plain torch."""
    window = torch.hann_window(WIN_LENGTH, device=waveform.device)

    def run() -> Tensor:
        frames = F.pad(waveform[:, None], (REACH, REACH), mode="reflect")[:, 0].unfold(1, WIN_LENGTH, HOP_LENGTH)
        spectrum = torch.view_as_real(torch.fft.rfft(frames * window, n=N_FFT))
        return finished(spectrum.square().sum(dim=-1).transpose(1, 2))

    return run


def compiled_stft(waveform: Tensor) -> Run:
    """The chain through torch.compile."""
    chain = torch.compile(stft_chain, dynamic=False)
    return lambda: chain(waveform)


def matrix_dft(waveform: Tensor) -> Run:
    """Frames as a strided view, times a matrix of windowed cosines and sines."""
    window = torch.hann_window(WIN_LENGTH, device=waveform.device, dtype=torch.float64)
    sample = torch.arange(WIN_LENGTH, device=waveform.device, dtype=torch.float64)
    angle = 2 * torch.pi / N_FFT * sample[:, None] * torch.arange(1, N_FFT // 2 + 1, device=waveform.device)
    matrix = torch.cat([angle.cos() * window[:, None], angle.sin() * window[:, None]], dim=1).to(waveform.dtype)

    def run() -> Tensor:
        frames = F.pad(waveform[:, None], (REACH, REACH), mode="reflect")[:, 0].unfold(1, WIN_LENGTH, HOP_LENGTH)
        power = (frames @ matrix).square().unflatten(2, (2, N_FFT // 2)).sum(dim=2).transpose(1, 2)
        return F.interpolate((power + EPS).log(), size=FRAMES, mode="linear", align_corners=False).unsqueeze(1)

    return run


def torchaudio(waveform: Tensor) -> Run:
    """torchaudio.transforms.Spectrogram."""
    from torchaudio.transforms import Spectrogram

    transform = Spectrogram(N_FFT, WIN_LENGTH, HOP_LENGTH, power=2.0).to(waveform.device)
    return lambda: finished(transform(waveform))


def nnaudio(waveform: Tensor) -> Run:
    """Transform by convolutions, as nnAudio does."""
    from nnAudio.features import STFT

    transform = STFT(
        n_fft=N_FFT, win_length=WIN_LENGTH, hop_length=HOP_LENGTH, output_format="Magnitude", verbose=False
    ).to(waveform.device)
    return lambda: finished(transform(waveform).square())


def librosa(waveform: Tensor) -> Run:
    """librosa.stft."""
    import librosa as package

    samples = waveform.numpy()

    def run() -> Tensor:
        spectrum = package.stft(
            samples, n_fft=N_FFT, hop_length=HOP_LENGTH, win_length=WIN_LENGTH, center=True, pad_mode="reflect"
        )
        return finished(torch.from_numpy(np.square(spectrum.real) + np.square(spectrum.imag)))

    return run


def scipy(waveform: Tensor) -> Run:
    """scipy.signal.ShortTimeFFT."""
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    window = hann(WIN_LENGTH, sym=False).astype(np.float32)
    transform = ShortTimeFFT(window, HOP_LENGTH, fs=24_000, mfft=N_FFT, phase_shift=None)
    samples, frames = waveform.numpy(), 1 + waveform.shape[1] // HOP_LENGTH

    def run() -> Tensor:
        padded = np.pad(samples, ((0, 0), (REACH, REACH)), mode="reflect")
        spectrum = transform.stft(padded, p0=1, p1=1 + frames)
        return finished(torch.from_numpy(np.square(spectrum.real) + np.square(spectrum.imag)).float())

    return run


def _windowed(waveform: Tensor) -> tuple[np.ndarray, Callable[[], None]]:
    """Return frames [B, F, 512], zeros behind the window, and what fills them from the waveform."""
    samples = waveform.numpy()
    window = torch.hann_window(WIN_LENGTH).numpy()
    frames = np.zeros((samples.shape[0], 1 + samples.shape[1] // HOP_LENGTH, N_FFT), np.float32)

    def fill() -> None:
        padded = np.pad(samples, ((0, 0), (REACH, REACH)), mode="reflect")
        pieces = np.lib.stride_tricks.sliding_window_view(padded, WIN_LENGTH, axis=1)[:, ::HOP_LENGTH]
        np.multiply(pieces, window, out=frames[:, :, :WIN_LENGTH])

    return frames, fill


def _from_spectrum(spectrum: np.ndarray) -> Tensor:
    return finished(torch.from_numpy(np.square(spectrum.real) + np.square(spectrum.imag)).transpose(1, 2))


def ducc0(waveform: Tensor) -> Run:
    """ducc0.fft.r2c, as many threads as torch has."""
    from ducc0.fft import r2c

    frames, fill = _windowed(waveform)

    def run() -> Tensor:
        fill()
        return _from_spectrum(r2c(frames, axes=(2,), nthreads=torch.get_num_threads()))

    return run


def pyfftw(waveform: Tensor) -> Run:
    """FFTW, planned by measuring."""
    import pyfftw as package

    frames, fill = _windowed(waveform)
    given = package.empty_aligned(frames.shape, "float32")
    found = package.empty_aligned((*frames.shape[:2], N_FFT // 2 + 1), "complex64")
    plan = package.FFTW(given, found, axes=(2,), flags=("FFTW_MEASURE",), threads=torch.get_num_threads())

    def run() -> Tensor:
        fill()
        given[:] = frames
        return _from_spectrum(plan())

    return run


TORCH_PEERS = {
    "torch.stft chain": torch_stft,
    "torch unfold + rfft": torch_unfold_rfft,
    "torchaudio": torchaudio,
    "nnAudio": nnaudio,
}
NUMPY_PEERS = {"librosa": librosa, "scipy": scipy, "ducc0": ducc0, "pyfftw": pyfftw}
