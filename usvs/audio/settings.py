"""Settings of the log-spectrogram and of voice-activity detection."""

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

    @property
    def bands(self) -> int:
        """Frequency bands of the result, the constant one dropped."""
        return self.n_fft // 2


class VoiceActivitySettings(Settings):
    """The energy detector of the paper's reference [14]; its sources differ in what is an option here."""

    frame_seconds: float = Field(0.01, gt=0)
    floor_growth: float = Field(1.0001, ge=1)  # the tracked minimum is raised by this factor a frame ...
    growth_compounds: bool = False  # ... and the factor itself grows, until a new minimum resets it
    hangover_seconds: float = Field(0.08, ge=0)
    minimum_run_seconds: float = Field(0.05, ge=0)  # shorter bursts are clicks
    threshold_ratio: float = Field(2.0, gt=1)  # the closed form of [14]: 6 dB above the floor
    # Ours; 0: only the constant part is taken off. With it 97 % of the clips of phantom narration are placed rightly,
    # without it 90: the RMS of their rooms' rumble swings by more than those 6 dB (docs/archive.md).
    high_pass_hz: float = Field(150.0, ge=0)
    scaling_factor: float | None = Field(None, ge=0, le=1)  # weight of the floor in the threshold; None: adaptive
    silence_rms: float = Field(1e-4, gt=0)  # ours: -80 dB; digital zero would pin the floor and make any noise speech
