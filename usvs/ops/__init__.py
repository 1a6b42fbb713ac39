"""The compiled ops of usvs and, beside each, its definition in plain torch (`*_reference`, same arguments and result).

=======================  ================================================================  =========================
op                       computes                                                          devices
=======================  ================================================================  =========================
`log_spectrogram`        batched STFT log-power spectrograms, resized in time              CPU, CUDA; differentiable
`contrastive_loss`       contrastive loss with a hard negative, no n x M matrix in memory  CPU, CUDA; differentiable
`ring_contrastive_loss`  the same over the candidates of all ranks, never gathered          CPU, CUDA; differentiable
`augment_frames`         crop, mirror, resize, gain and standardisation of gray frames     CPU
`frame_energy`           RMS of the frames of a recording after a high-pass filter         CPU
`energy_threshold`       adaptive threshold of an energy-based voice activity detector     CPU
`pair_score`             KL divergence, similarity or correlation of two saliency maps     CPU; else the reference
`fixation_statistics`    sums and ranks of a saliency map at fixations                     CPU; else the reference
`saliency_statistics`    both of them in one pass over memory                              CPU; else the reference
=======================  ================================================================  =========================

Importing this package loads libusvs_ops.so, which registers the ops under `torch.ops.usvs`; import it before
`torch.jit.load` of a module that calls them. It imports torch and nothing else that takes time.
"""

from typing import Any

import torch

from usvs import __version__
from usvs.ops._library import read_build_info
from usvs.ops.augment_frames import MOST_HALVINGS, WEIGHT_BITS, augment_frames, augment_frames_reference
from usvs.ops.batch_norm import batch_norm_act, batch_norm_act_reference
from usvs.ops.contrastive_loss import contrastive_loss
from usvs.ops.contrastive_loss_reference import contrastive_loss_reference
from usvs.ops.energy_threshold import energy_threshold, energy_threshold_reference
from usvs.ops.frame_energy import frame_energy, frame_energy_reference
from usvs.ops.log_spectrogram import log_spectrogram, log_spectrogram_reference
from usvs.ops.ring_contrastive_loss import ring_contrastive_loss, ring_contrastive_loss_reference
from usvs.ops.saliency_statistics import (
    fixation_statistics,
    fixation_statistics_reference,
    pair_score,
    pair_score_reference,
    saliency_statistics,
    saliency_statistics_reference,
)

__all__ = [
    "MOST_HALVINGS",
    "WEIGHT_BITS",
    "augment_frames",
    "augment_frames_reference",
    "batch_norm_act",
    "batch_norm_act_reference",
    "build_info",
    "contrastive_loss",
    "contrastive_loss_reference",
    "energy_threshold",
    "energy_threshold_reference",
    "fixation_statistics",
    "fixation_statistics_reference",
    "frame_energy",
    "frame_energy_reference",
    "log_spectrogram",
    "log_spectrogram_reference",
    "pair_score",
    "pair_score_reference",
    "ring_contrastive_loss",
    "ring_contrastive_loss_reference",
    "saliency_statistics",
    "saliency_statistics_reference",
]


def build_info() -> dict[str, Any]:
    """Return how the compiled libraries were built and what it uses on this machine.

    Returns:
        ``simd_compiled``, ``simd_usable`` and ``simd`` (in use): names of instruction sets; ``bfloat16_products``:
        whether the loss multiplies bfloat16 without conversion to float32; ``cuda_architectures``: empty without
        CUDA kernels; ``usvs``, ``compiler`` and ``torch``: versions.
    """
    built = read_build_info()
    return {**built, "usvs": __version__, "torch": torch.__version__}
