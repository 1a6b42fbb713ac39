"""What the speech network sees: a standardised log-spectrogram (section 3.1).

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults.
"""

from torch import Tensor, nn

from usvs.config import SpectrogramSettings
from usvs.ops import log_spectrogram

LOG_POWER_MEAN = -5.0
LOG_POWER_SCALE = 5.0


class LogSpectrogram(nn.Module):
    """Waveforms to log-spectrograms, shifted and scaled once and for all.

    Args:
        settings: transform, window, hop, size of the picture.
    """

    def __init__(self, settings: SpectrogramSettings) -> None:
        super().__init__()
        self.n_fft: int = settings.n_fft
        self.win_length: int = settings.win_length
        self.hop_length: int = settings.hop_length
        self.frames: int = settings.frames
        self.eps: float = settings.eps

    def forward(self, waveform: Tensor) -> Tensor:
        """Map waveforms [B, S] in [-1, 1] to pictures [B, 1, bands, frames], row 0 the lowest band."""
        picture = log_spectrogram(waveform, self.n_fft, self.win_length, self.hop_length, self.frames, self.eps)
        return (picture - LOG_POWER_MEAN) / LOG_POWER_SCALE
