"""Standardised log-spectrograms, the input of the speech encoder (section 3.1).

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults.
"""

from torch import Tensor, nn

from usvs.audio.settings import SpectrogramSettings
from usvs.ops import log_spectrogram

# Mean and standard deviation of the natural log of power over all bands and frames of 295 high-affinity pieces of the
# phantom's narration (four voices, samples in [-1, 1] at 24 kHz, 10 ms Hann window, eps 1e-6): -7.1 and 2.8, rounded.
# Constants and not statistics of each piece, so that loudness is preserved and silence is not amplified to noise.
LOG_POWER_MEAN = -7.0
LOG_POWER_SCALE = 3.0


class LogSpectrogram(nn.Module):
    """Log-spectrograms of waveforms, standardised by constants so that speech has mean 0 and deviation 1 approximately.

    Args:
        settings: transform, window, hop, frames of the result.
    """

    def __init__(self, settings: SpectrogramSettings) -> None:
        super().__init__()
        self.n_fft: int = settings.n_fft
        self.win_length: int = settings.win_length
        self.hop_length: int = settings.hop_length
        self.frames: int = settings.frames
        self.eps: float = settings.eps
        self.mean: float = LOG_POWER_MEAN
        self.scale: float = LOG_POWER_SCALE

    def forward(self, waveform: Tensor) -> Tensor:
        """Map waveforms [B, S] in [-1, 1] to log-spectrograms [B, 1, bands, frames], row 0 the lowest band."""
        log_power = log_spectrogram(waveform, self.n_fft, self.win_length, self.hop_length, self.frames, self.eps)
        return (log_power - self.mean) / self.scale
