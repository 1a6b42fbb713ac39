"""What the speech network sees: a standardised log-spectrogram (section 3.1).

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults.
"""

from torch import Tensor, nn

from usvs.audio.settings import SpectrogramSettings
from usvs.ops import log_spectrogram

# Of the natural log of the power of spoken words in [-1, 1] at 24 kHz, 10 ms Hann window, eps 1e-6: mean and standard
# deviation over all bands and frames of 295 high-affinity pieces of the phantom's narration, four voices, rounded (-7.1
# and 2.8). Fixed, not taken from each piece, so that loudness stays visible and silence is not blown up to noise.
LOG_POWER_MEAN = -7.0
LOG_POWER_SCALE = 3.0


class LogSpectrogram(nn.Module):
    """Waveforms to log-spectrograms, shifted and scaled by constants so that speech is about N(0, 1).

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
        self.mean: float = LOG_POWER_MEAN
        self.scale: float = LOG_POWER_SCALE

    def forward(self, waveform: Tensor) -> Tensor:
        """Map waveforms [B, S] in [-1, 1] to pictures [B, 1, bands, frames], row 0 the lowest band."""
        picture = log_spectrogram(waveform, self.n_fft, self.win_length, self.hop_length, self.frames, self.eps)
        return (picture - self.mean) / self.scale
