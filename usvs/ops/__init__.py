"""The two kernels `log_spectrogram` and `contrastive_loss` and the ops of the data path, each with its reference.

Importing this package loads the compiled library and registers `torch.ops.usvs`; import it before `torch.jit.load`.
"""

from typing import Any

import torch

from usvs import __version__
from usvs.ops._library import read_build_info
from usvs.ops.augment_frames import MOST_HALVINGS, WEIGHT_BITS, augment_frames, augment_frames_reference
from usvs.ops.contrastive_loss import contrastive_loss, contrastive_loss_reference
from usvs.ops.energy_threshold import energy_threshold, energy_threshold_reference
from usvs.ops.frame_energy import frame_energy, frame_energy_reference
from usvs.ops.log_spectrogram import log_spectrogram, log_spectrogram_reference

__all__ = [
    "MOST_HALVINGS",
    "WEIGHT_BITS",
    "augment_frames",
    "augment_frames_reference",
    "build_info",
    "contrastive_loss",
    "contrastive_loss_reference",
    "energy_threshold",
    "energy_threshold_reference",
    "frame_energy",
    "frame_energy_reference",
    "log_spectrogram",
    "log_spectrogram_reference",
]


def build_info() -> dict[str, Any]:
    """Tell what was built and what runs here.

    Returns:
        ``simd_compiled``, ``simd_usable`` and ``simd`` (in use); ``bfloat16_products``, whether those in use multiply
        bfloat16 without widening it; ``cuda_architectures`` (empty without CUDA kernels); versions: ``usvs``,
        ``compiler`` and ``torch``.
    """
    built = read_build_info()
    products = built["simd"] == "avx512_bf16"
    return {**built, "bfloat16_products": products, "usvs": __version__, "torch": torch.__version__}
