"""The shared space of a pretraining run: frames and pieces of speech as embeddings that can be compared."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from usvs.data.transforms import evaluation_frames
from usvs.errors import ConfigError, DataError
from usvs.models.preprocessing import Images, prepared_side, preprocess_images
from usvs.tasks.features import BATCH_FRAMES
from usvs.tasks.pretraining.load import load_pretrain_model
from usvs.tasks.pretraining.module import PretrainModel
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.trainer import choose_device

PIECE_HOP = 1 / 3  # of a piece: how far the pieces of a longer recording are apart
LEAST_LEVEL = 0.1  # of the loudest piece's: quieter pieces are pauses
SILENCE = 1e-4  # root mean square below which a recording has no speech: -80 dB


class SharedSpace:
    """Frames and pieces of speech in one space: both streams of a run with their projections, in evaluation mode.

    The similarity of a frame and a piece of speech is the dot product of their embeddings, as the run's loss computed
    it; embeddings have length 1 where the run compared them so (setting ``objective.normalise``).

    Args:
        model: of a run whose loss compares frames with speech.
        settings: of the run.

    Attributes:
        settings: of the run.
        width: d, of an embedding.
        rate_hz: sampling rate of speech.
        piece_samples: S, of a piece of speech.
        prepared_pixels: side of the frames of files, from which the input is cropped.

    Raises:
        ConfigError: for a run whose loss compares no frames with speech.
    """

    def __init__(self, model: PretrainModel, settings: PretrainSettings) -> None:
        if settings.objective.contrastive_weight == 0:
            raise ConfigError(
                "run: expected one whose loss compares frames with speech, got objective.contrastive_weight 0: its"
                " frames and its speech share no space"
            )
        self.settings = settings
        self.width: int = settings.model.projection_width
        self.rate_hz: int = settings.spectrogram.rate_hz
        self.piece_samples: int = round(settings.clips.speech_seconds * self.rate_hz)
        self._pixels = settings.model.frame_pixels
        self.prepared_pixels: int = prepared_side(self._pixels, settings.augment.crop_fraction)
        self._device = choose_device(settings.run.device)
        self._model = model.to(self._device).eval()

    @classmethod
    def load(cls, run: str | Path, encoder: nn.Module | None = None) -> Self:
        """Load the shared space of a run; arguments and errors as of `load_pretrain_model`."""
        return cls(*load_pretrain_model(run, encoder))

    def embed_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the embeddings [n, d] of frames [n, P, P] like those of a store.

        Raises:
            ConfigError: where the frames are smaller than the run's input.
        """
        return self._embed_inputs(evaluation_frames(frames, self._pixels, self.settings.augment))

    def embed_images(self, images: Images) -> NDArray[np.float32]:
        """Return the embeddings [n, d] of images of any kind, as of `usvs.models.preprocessing.preprocess_images`."""
        return self._embed_inputs(preprocess_images(images, self._pixels, self.settings.augment.crop_fraction))

    def _embed_inputs(self, inputs: Tensor) -> NDArray[np.float32]:
        def embed(part: Tensor) -> Tensor:
            found: Tensor = self._model.streams(part, part[:0, None], part[:0]).video_embeddings
            return found

        return self._run(inputs, embed)

    def embed_pieces(self, pieces: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the embeddings [n, d] of pieces of speech [n, S], full scale 1, at `rate_hz`."""

        def embed(part: Tensor) -> Tensor:
            spectrograms = self._model.spectrogram(part)
            none = part.new_zeros((0, 1, 1, 1))
            found: Tensor = self._model.streams(none, none[:, None], spectrograms).speech_embeddings
            return found

        return self._run(torch.from_numpy(np.ascontiguousarray(pieces, np.float32)), embed)

    def speech_pieces(self, sound: NDArray[np.float32], what: str) -> NDArray[np.float32]:
        """Cut a recording into overlapping pieces as long as those that the run was trained on, without its pauses.

        Args:
            sound: [samples] at `rate_hz`; a short one is extended by silence on both sides.
            what: it is, for messages.

        Returns:
            Pieces [k, S], k at least 1.

        Raises:
            DataError: for silence, or values that are not finite.
        """
        if not np.isfinite(sound).all():
            raise DataError(f"{what}: expected finite samples, got NaN or infinity")
        missing = max(0, self.piece_samples - len(sound))
        padded = np.pad(np.asarray(sound, np.float32), (missing // 2, missing - missing // 2))
        last = len(padded) - self.piece_samples
        count = 1 + -(-last // max(1, round(PIECE_HOP * self.piece_samples)))
        starts = np.linspace(0, last, count).round().astype(int)
        pieces = np.stack([padded[start : start + self.piece_samples] for start in starts])
        level = np.sqrt(np.mean(np.square(pieces, dtype=np.float64), axis=1))
        if level.max() < SILENCE:
            raise DataError(f"{what}: expected speech, got silence")
        return np.asarray(pieces[level >= LEAST_LEVEL * level.max()])

    def embed_speech(self, sounds: list[NDArray[np.float32]], what: str) -> NDArray[np.float32]:
        """Return one embedding [d] of several recordings: the mean of the means over their pieces.

        Args:
            sounds: each [samples] at `rate_hz`.
            what: they are, for messages.

        Raises:
            DataError: as of `speech_pieces`.
        """
        pieces = [self.speech_pieces(sound, what) for sound in sounds]
        found = np.split(self.embed_pieces(np.concatenate(pieces)), np.cumsum([len(each) for each in pieces])[:-1])
        return np.asarray(np.mean([each.mean(axis=0) for each in found], axis=0), np.float32)

    def _run(self, inputs: Tensor, embed: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
        parts = []
        with torch.inference_mode():
            for part in torch.split(inputs, BATCH_FRAMES):
                found = embed(part.to(self._device)).float()
                parts.append(F.normalize(found, dim=1) if self.settings.objective.normalise else found)
        return np.asarray(torch.cat(parts).cpu().numpy())
