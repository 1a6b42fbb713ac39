"""Standardised log-spectrograms, the input of the speech encoder (section 3.1).

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from usvs.audio.settings import SpectrogramSettings
from usvs.ops import log_spectrogram

# Mean and standard deviation of the natural log of power over all bands and frames of 295 high-affinity pieces of the
# phantom's narration (four voices, samples in [-1, 1] at 24 kHz, 10 ms Hann window, eps 1e-6): -7.1 and 2.8, rounded.
# Constants and not statistics of each piece, so that loudness is preserved and silence is not amplified to noise.
LOG_POWER_MEAN = -7.0
LOG_POWER_SCALE = 3.0
LEAST_SCALE = 0.1  # added to the standard deviation of a piece, so that digital silence stays zeros


class LogSpectrogram(nn.Module):
    """Log-spectrograms of waveforms, standardised so that speech has mean 0 and deviation 1 approximately.

    Args:
        settings: transform, window, hop, frames of the result, whether constants or each piece's own mean and deviation
            are used, and how many bands and frames are averaged.
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
        self.by_piece: bool = settings.standardise == "piece"
        self.least_scale: float = LEAST_SCALE
        self.pool: int = settings.pool

    def forward(self, waveform: Tensor) -> Tensor:
        """Map waveforms [B, S] in [-1, 1] to [B, 1, bands / pool, frames / pool], row 0 the lowest band."""
        log_power = log_spectrogram(waveform, self.n_fft, self.win_length, self.hop_length, self.frames, self.eps)
        # In place where no gradient needs what is overwritten: megabytes that stay in the cache.
        standard = log_power.sub_(self.mean).div_(self.scale)
        if self.by_piece:
            standard = standard.sub_(standard.mean(dim=(2, 3), keepdim=True))
            standard = standard / (standard.square().mean(dim=(2, 3), keepdim=True).sqrt() + self.least_scale)
        if self.pool > 1:
            standard = F.avg_pool2d(standard, self.pool)
        return standard
