"""`SaliencyModel`: prediction of where sonographers look."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from usvs.config import Profile, override_settings
from usvs.evaluation.folds import GroupBy
from usvs.inference.encoder_settings import with_encoder
from usvs.inference.frames import Source
from usvs.inference.model_base import FinetunedModel
from usvs.inference.models import predict_images
from usvs.store.prepared import PreparedStore
from usvs.tasks.fit import fit_module
from usvs.tasks.initial_encoder import Init, initial_encoder
from usvs.tasks.model_files import TrainedModel
from usvs.tasks.saliency.settings import SaliencySettings, saliency_profile
from usvs.tasks.saliency.task import SaliencyTask
from usvs.training.process import process_settings
from usvs.training.trainer import choose_device


class SaliencyModel(FinetunedModel):
    """An encoder fine-tuned to predict a density of gaze for each frame; it trains as `usvs.finetune` does.

    Example:
        >>> densities = usvs.SaliencyModel.from_pretrained("RUN").predict(["image.png"])

    Args:
        encoder: as of `usvs.FrameClassifier`.
        profile: ``"quick"`` or ``"paper"``; of the default settings.
        **settings: settings of `SaliencySettings` by name.

    Attributes:
        models_: the trained models; one after `fit`, one per fold where a run with folds was loaded.
    """

    _task_class = SaliencyTask
    _task_title = "gaze saliency"

    def __init__(self, encoder: Init = "random", *, profile: Profile = "quick", **settings: Any) -> None:
        super().__init__(encoder, profile, settings)

    def fit(self, store: str | Path, group_by: GroupBy = "patient") -> Self:
        """Train on all frames with gaze of a prepared store.

        Args:
            store: the store's folder.
            group_by: ``scan`` for a store without patient ids.

        Returns:
            The model itself.

        Raises:
            DataError: for a store without gaze.
            ConfigError: for settings or an encoder that cannot be used.
        """
        task, settings = SaliencyTask(), self._settings()
        opened, device = PreparedStore(Path(store)), choose_device(settings.run.device)
        table = task.dataset(opened, settings, group_by)
        with process_settings(device):
            encoder = initial_encoder(self.encoder, settings).to(device)
            module, _ = fit_module(task, opened, table, encoder, settings)
        self.models_: tuple[TrainedModel, ...] = (
            TrainedModel(task, module.eval(), settings, opened.scan(0).frame_pixels),
        )
        return self

    def predict(self, images: Source) -> NDArray[np.float32]:
        """Return a density for each image, [n, H, W], which sums to 1 over the pixels of the network's input.

        Args:
            images: image or video files (the sector is detected; of videos every eighth frame), or images in memory, as
                of `usvs.models.preprocessing.preprocess_images`.

        Raises:
            DataError: for a file that cannot be read, or images of another shape or dtype.
        """
        return np.asarray(predict_images(self._models, images).numpy())

    def _settings(self) -> SaliencySettings:
        base = with_encoder(saliency_profile(self.profile), self.encoder)
        return override_settings(base, **self.settings)
