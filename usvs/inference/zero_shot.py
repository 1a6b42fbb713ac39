"""`ZeroShotClassifier`: classes named by voice, for a run that was pretrained without a single label."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from typing_extensions import Self

from usvs.archive.class_list import ClassList
from usvs.data.frame_dataset import FrameDataset
from usvs.data.settings import TEMPORAL_STRIDE
from usvs.errors import ConfigError
from usvs.evaluation.zero_shot import class_scores, standardise_scores
from usvs.inference.frame_batches import source_batches
from usvs.inference.frames import Source, as_files
from usvs.inference.spoken_prompts import embed_classes, embed_recorded_classes
from usvs.narration.spoken import VOICES, SpokenClasses, draw_voices, read_spoken_classes, spoken_classes
from usvs.narration.voice import Voice
from usvs.tasks.features import BATCH_FRAMES
from usvs.tasks.pretraining.shared_space import SharedSpace

logger: logging.Logger = logging.getLogger(__name__)

LEAST_REFERENCE_FRAMES = 32  # fewer say little about the mean and the deviation of a class's scores

ClassNames = str | Path | Sequence[str] | Mapping[str, Sequence[str]] | SpokenClasses


class ZeroShotClassifier:
    """Names frames by the nearest spoken class in the shared space of a pretraining run; no label is used.

    Every class is spoken by several voices in several phrasings, and the embeddings of the speech are averaged. A frame
    is compared with each average. Scores of different classes are not alike: `fit` learns from unlabelled frames what
    is usual for each class, and scores are then standardised by it.

    Example:
        >>> classifier = usvs.ZeroShotClassifier("RUN", ["four chamber view", "abdomen", "femur"]).fit("STORE")
        >>> classifier.predict("clip.mp4")

    Args:
        run: a pretraining run whose loss compares frames with speech, or its open `SharedSpace`.
        classes: names, which are spoken as they are written; a mapping of names to terms; a text file with a line
            ``name`` or ``name: term, term`` for each class; a lexicon (TOML); or a folder of recordings,
            ``CLASS/*.wav``.
        voices: number of synthetic voices, or the voices; without effect on recordings.
        encoder: as of `usvs.load_encoder`.

    Attributes:
        class_list: the classes.
        prototypes_: [C, d] embedding of each class.
        space: of the run.

    Raises:
        MissingDependencyError: for names to be spoken where espeak-ng is not installed (``pip install
            'usvs[phantom]'``).
        ConfigError: for classes that cannot be used, or a run without shared space.
        DataError: for a run or recordings that cannot be read.
    """

    _estimator_type = "classifier"

    def __init__(
        self,
        run: str | Path | SharedSpace,
        classes: ClassNames,
        *,
        voices: int | Sequence[Voice] = VOICES,
        encoder: nn.Module | None = None,
    ) -> None:
        spoken = _read_classes(classes)
        self.space: SharedSpace = run if isinstance(run, SharedSpace) else SharedSpace.load(run, encoder)
        if isinstance(spoken, SpokenClasses):
            self.class_list: ClassList = spoken.class_list
            chosen = draw_voices(voices) if isinstance(voices, int) else tuple(voices)
            self.prototypes_: NDArray[np.float32] = embed_classes(self.space, spoken, chosen)
        else:
            self.class_list, self.prototypes_ = embed_recorded_classes(self.space, spoken)
        self._reference: tuple[NDArray[np.float32], NDArray[np.float64]] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in order."""
        return self.class_list.names

    @property
    def classes_(self) -> NDArray[np.str_]:
        """Names of the classes, in the order of `predict_proba`, [C]."""
        return np.array(self.classes)

    def fit(self, frames: Source | FrameDataset, labels: object = None) -> Self:
        """Learn the usual score of each class from unlabelled frames, by which scores are standardised.

        Args:
            frames: as of `embed`; best frames of all classes, of the scanners and patients that are predicted.
            labels: not used.

        Returns:
            The classifier itself.

        Raises:
            ConfigError: for fewer frames than `LEAST_REFERENCE_FRAMES`.
        """
        return self.fit_embeddings(self.embed(frames))

    def fit_embeddings(self, embeddings: NDArray[np.float32]) -> Self:
        """`fit` with embeddings [n, d] of frames."""
        if len(embeddings) < LEAST_REFERENCE_FRAMES:
            raise ConfigError(f"fit: expected at least {LEAST_REFERENCE_FRAMES} frames, got {len(embeddings)}")
        centre = embeddings.mean(axis=0)
        self._reference = (centre, class_scores(embeddings, self.prototypes_, centre))
        return self

    @property
    def is_fitted(self) -> bool:
        """Whether scores are standardised."""
        return self._reference is not None

    def embed(self, frames: Source | FrameDataset, stride: int = TEMPORAL_STRIDE) -> NDArray[np.float32]:
        """Return the embeddings [n, d] of frames.

        Args:
            frames: a `FrameDataset`; a prepared store; image or video files; or images in memory, as of
                `usvs.models.preprocessing.preprocess_images`.
            stride: every `stride`-th frame of a scan or a video.

        Raises:
            DataError: for a file that cannot be read, or images of another shape or dtype.
        """
        space = self.space
        if isinstance(frames, FrameDataset):
            rows = np.array_split(np.arange(len(frames)), max(1, -(-len(frames) // BATCH_FRAMES)))
            return np.concatenate([space.embed_frames(frames.read(part)) for part in rows])
        files = as_files(frames)
        if files is None:
            return space.embed_images(frames)  # type: ignore[arg-type]
        batches = source_batches(files, space.prepared_pixels, stride, "embedding")
        return np.concatenate([space.embed_frames(batch.frames) for batch in batches])

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the score of each class for embeddings [n, d] of frames: [n, C], standardised after `fit`."""
        if self._reference is None:
            return class_scores(embeddings, self.prototypes_)
        centre, known = self._reference
        return standardise_scores(class_scores(embeddings, self.prototypes_, centre), known)

    def probabilities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the softmax of `scores` (without `fit`, over the run's temperature), [n, C]; it is not calibrated."""
        temperature = 1.0 if self.is_fitted else self.space.settings.objective.temperature
        return np.asarray(torch.from_numpy(self.scores(embeddings) / temperature).softmax(dim=1).numpy())

    def predict_proba(self, images: Source | FrameDataset) -> NDArray[np.float64]:
        """Return the probability of every class for each frame, [n, C]; arguments and errors as of `embed`."""
        return self.probabilities(self.embed(images))

    def predict(self, images: Source | FrameDataset) -> NDArray[np.str_]:
        """Return the nearest class of each frame, [n]; arguments and errors as of `embed`."""
        return np.asarray(self.classes_[self.scores(self.embed(images)).argmax(axis=1)])

    def fit_or_explain(self, embeddings: NDArray[np.float32]) -> None:
        """`fit_embeddings`, unless the classifier is fitted; where the frames are too few, say what that means."""
        if self.is_fitted:
            return
        if len(embeddings) >= LEAST_REFERENCE_FRAMES:
            self.fit_embeddings(embeddings)
            return
        logger.warning(
            f"zero-shot: expected at least {LEAST_REFERENCE_FRAMES} frames to learn the usual score of each class from,"
            f" got {len(embeddings)}: scores are not standardised, so some classes are named too often; add"
            " --reference STORE, whose frames it is then learnt from"
        )


def _read_classes(classes: ClassNames) -> SpokenClasses | Path:
    """Return classes with their terms, or the folder of their recordings."""
    if isinstance(classes, SpokenClasses):
        return classes
    if isinstance(classes, (str, Path)):
        return Path(classes) if Path(classes).is_dir() else read_spoken_classes(classes)
    return spoken_classes(classes)
