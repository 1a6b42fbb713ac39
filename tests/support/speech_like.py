"""A signal like speech."""

import math

import torch
from torch import Tensor

RATE_HZ = 24_000


def speech_like(batch: int, samples: int, seed: int = 0) -> Tensor:
    """Gliding harmonics under a syllable's envelope, a hiss, and stretches of near silence."""
    generator = torch.Generator().manual_seed(seed)
    seconds = torch.arange(samples) / RATE_HZ
    pitch_hz = 110 + 90 * torch.rand(batch, 1, generator=generator)
    phase = 2 * math.pi * torch.cumsum(pitch_hz * (1 + 0.1 * torch.sin(9 * seconds)) / RATE_HZ, dim=1)
    voice = sum(torch.sin(k * phase) / k for k in range(1, 30))
    envelope = torch.sin(2 * math.pi * 2.3 * seconds).clamp_min(0) ** 2
    return 0.1 * envelope * voice + 1e-3 * torch.randn(batch, samples, generator=generator)
