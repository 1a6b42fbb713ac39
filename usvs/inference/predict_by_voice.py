"""Predictions of a zero-shot classifier for images, videos and stores, as the same table as of other models."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.data.settings import TEMPORAL_STRIDE
from usvs.errors import ConfigError, DataError
from usvs.inference.frame_batches import FrameBatch, media_batches, open_store, store_batches
from usvs.inference.frames import as_files
from usvs.inference.predict import Prediction, PredictionTable, make_prediction
from usvs.inference.zero_shot import ClassNames, ZeroShotClassifier
from usvs.media.box import Box
from usvs.store.identity import is_store
from usvs.utils.progress import track


def predict_by_voice(
    images: str | Path | Sequence[str | Path],
    model: str | Path | ZeroShotClassifier,
    classes: ClassNames | None = None,
    *,
    box: Box | None = None,
    stride: int = TEMPORAL_STRIDE,
    reference: str | Path | None = None,
) -> PredictionTable:
    """Name the frames of images, videos and stores by the nearest spoken class.

    Scores are standardised per class over `reference`, otherwise over the frames that are predicted. A file that cannot
    be read does not stop the others: its prediction has the reason as `error`.

    Args:
        images: image files, videos, DICOM, or prepared stores.
        model: a pretraining run, or a classifier.
        classes: as of `ZeroShotClassifier`, for a run.
        box: the region to use of files, in pixels; None: the sector is detected in each.
        stride: every `stride`-th frame of a video or a scan.
        reference: a store, a video or pictures whose frames say what score is usual for each class; no label of theirs
            is used.

    Raises:
        ConfigError, DataError, MissingDependencyError: as of `ZeroShotClassifier`, and for a store or a reference that
            cannot be read.
    """
    files = as_files(images)
    if files is None:
        raise ConfigError("images: expected image or video files; for arrays see usvs.ZeroShotClassifier")
    if not isinstance(model, ZeroShotClassifier):
        if classes is None:
            raise ConfigError("classes: expected names of classes beside a pretraining run, got None")
        model = ZeroShotClassifier(model, classes)
    for file in filter(is_store, files):
        open_store(file)  # before the work that an error would lose
    if reference is not None:
        model.fit(reference)
    rows: list[Prediction] = []  # without their probabilities, except for errors
    embeddings: list[NDArray[np.float32]] = [np.zeros((0, model.space.width), np.float32)]
    for file in track(files, "embedding files") if len(files) > 1 else files:
        failed = list[str]()
        try:
            for batch in _batches(file, model, box, stride, failed):
                embeddings.append(model.space.embed_frames(batch.frames))
                rows += _rows(batch, model.classes)
        except DataError as error:
            failed.append(str(error))
        rows += [Prediction(file, "", 0.0, (), error=reason) for reason in failed]
    found = np.concatenate(embeddings)
    if len(found):
        model.fit_or_explain(found)
    probabilities = iter(model.probabilities(found).tolist())
    names = model.classes
    predictions = [
        row
        if row.error is not None
        else make_prediction(names, row.file, next(probabilities), row.seconds)._replace(known=row.known)
        for row in rows
    ]
    return PredictionTable(model.class_list, predictions)


def _batches(
    file: Path, model: ZeroShotClassifier, box: Box | None, stride: int, failed: list[str]
) -> Iterator[FrameBatch]:
    if is_store(file):
        return store_batches(open_store(file), stride, "embedding scans", failed)
    return media_batches(file, model.space.prepared_pixels, stride, box)


def _rows(batch: FrameBatch, classes: tuple[str, ...]) -> list[Prediction]:
    known = [label if label in classes else None for label in batch.labels]
    return [
        Prediction(Path(batch.scan), "", 0.0, (), moment, known=label)
        for moment, label in zip(batch.seconds, known, strict=True)
    ]
