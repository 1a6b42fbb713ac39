"""Settings of the log-spectrogram and of voice-activity detection."""

from typing import Literal

from pydantic import Field

from usvs.config import Settings


class SpectrogramSettings(Settings):
    """The log-spectrogram of a speech piece (section 3.1)."""

    rate_hz: int = Field(24_000, gt=0)
    n_fft: int = Field(512, ge=64, le=4096)
    win_length: int = Field(240, gt=0)  # 10 ms
    hop_length: int = Field(120, gt=0)  # 5 ms
    frames: int = Field(256, gt=0)
    eps: float = Field(1e-6, gt=0)
    # constants: loudness is preserved, and silence is not amplified; piece: mean 0 and deviation 1 of each piece, which
    # takes out the loudness and the noise floor of a room. Not in the paper, like the next one.
    standardise: Literal["constants", "piece"] = "constants"
    pool: int = Field(1, ge=1)  # side of the squares of bands and frames that are averaged before the encoder

    @property
    def bands(self) -> int:
        """Frequency bands of the result, without the DC band."""
        return self.n_fft // 2


class VoiceActivitySettings(Settings):
    """The energy detector of the paper's reference [14]; where descriptions of it differ there is a setting here."""

    frame_seconds: float = Field(0.01, gt=0)
    floor_growth: float = Field(1.0001, ge=1)  # factor of the tracked minimum per frame
    growth_compounds: bool = False  # the factor itself grows every frame until a new minimum resets it
    hangover_seconds: float = Field(0.08, ge=0)  # speech is extended by this after its end
    minimum_run_seconds: float = Field(0.05, ge=0)  # shorter bursts are clicks and do not count
    threshold_ratio: float = Field(2.0, gt=1)  # threshold over floor; 2 (6 dB) in the closed form of [14]
    # High-pass filter before the detector, not in the paper; 0: only the mean is subtracted. With it 97 % of the clips
    # of phantom narration are classified correctly, without it 90 %: the RMS of low-frequency room noise varies by more
    # than 6 dB (docs/archive.md).
    high_pass_hz: float = Field(150.0, ge=0)
    scaling_factor: float | None = Field(None, ge=0, le=1)  # weight of the floor in the threshold; None: adaptive
    # Lower bound of the floor, -80 dB, not in the paper: digital silence would set the floor to 0, and any noise after
    # it would count as speech.
    silence_rms: float = Field(1e-4, gt=0)
