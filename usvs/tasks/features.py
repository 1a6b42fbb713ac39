"""Features of frames: an encoder in evaluation mode over prepared frames."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usvs.data.frame_table import FrameTable, read_frames
from usvs.data.settings import AugmentSettings
from usvs.data.transforms import evaluation_frames
from usvs.models.encoder import Encoder
from usvs.store.prepared import PreparedStore

BATCH_FRAMES = 256


def embed_frames(
    store: PreparedStore, table: FrameTable, encoder: Encoder, frame_pixels: int, augment: AugmentSettings
) -> NDArray[np.float32]:
    """Return the features [n, C] of the table's frames, in its order, by the encoder in evaluation mode.

    Args:
        store: where the frames are.
        table: the frames.
        encoder: its mode is restored.
        frame_pixels: side of its input.
        augment: `crop_fraction` decides the central crop.
    """
    return features_of(encoder, frame_batches(store, table), frame_pixels, augment)


def frame_batches(store: PreparedStore, table: FrameTable, size: int = BATCH_FRAMES) -> Iterator[NDArray[np.uint8]]:
    """Yield the table's frames, uint8 [<= size, P, P] at a time."""
    for start in range(0, len(table), size):
        yield read_frames(store, table.take(np.arange(start, min(start + size, len(table)))))


def features_of(
    encoder: Encoder, batches: Iterable[NDArray[np.uint8]], frame_pixels: int, augment: AugmentSettings
) -> NDArray[np.float32]:
    """Run an encoder over frames uint8 [b, P, P], without gradient and in evaluation mode; its mode is restored.

    Args:
        encoder: the network.
        batches: of frames like those of a store.
        frame_pixels: side of the encoder's input.
        augment: `crop_fraction` decides the central crop.

    Returns:
        The features [n, C] of all batches.
    """
    return encode_inputs(encoder, (evaluation_frames(frames, frame_pixels, augment) for frames in batches))


def encode_inputs(encoder: Encoder, batches: Iterable[Tensor]) -> NDArray[np.float32]:
    """Run an encoder over batches of its input, without gradient and in evaluation mode; its mode is restored.

    Args:
        encoder: the network.
        batches: of inputs [b, C, P, P], on any device.

    Returns:
        The features [n, C] of all batches.
    """
    was_training, device = encoder.training, next(encoder.parameters()).device
    encoder.eval()
    try:
        with torch.inference_mode():
            parts = [encoder(inputs.to(device)).float().cpu().numpy() for inputs in batches]
    finally:
        encoder.train(was_training)
    return np.concatenate(parts)
