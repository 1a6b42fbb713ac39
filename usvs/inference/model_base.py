"""What the models for users share: arguments as in scikit-learn, saving and loading."""

import copy
from pathlib import Path
from typing import Any, ClassVar, cast

from torch import nn
from typing_extensions import Self

from usvs.config import Profile
from usvs.errors import ConfigError
from usvs.inference.models import load_models
from usvs.tasks.initial_encoder import Init
from usvs.tasks.model_files import TrainedModel, save_model
from usvs.tasks.registry import AnyTask


class FinetunedModel:
    """Base of `FrameClassifier` and `SaliencyModel`.

    A subclass names its task's class and the arguments of its constructor that are no settings, and sets `models_` in
    its `fit`.
    """

    _arguments: ClassVar[tuple[str, ...]] = ("encoder", "profile")
    _task_class: ClassVar[type[AnyTask]]
    _task_title: ClassVar[str]
    models_: tuple[TrainedModel, ...]

    def __init__(self, encoder: Init, profile: Profile, settings: dict[str, Any]) -> None:
        self.encoder = encoder
        self.profile = profile
        self.settings: dict[str, Any] = settings

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor by name."""
        return {**{name: getattr(self, name) for name in self._arguments}, **self.settings}

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor; other names are settings."""
        for name, value in params.items():
            if name in self._arguments:
                setattr(self, name, value)
            else:
                self.settings = {**self.settings, name: value}
        return self

    def save(self, folder: str | Path) -> None:
        """Write the trained model, see `usvs.save_model`; several folds go to ``fold_N`` in the folder.

        Raises:
            ConfigError: for a model that is not trained.
        """
        models = self._models
        for number, model in enumerate(models):
            save_model(Path(folder) if len(models) == 1 else Path(folder) / f"fold_{number}", model)

    @classmethod
    def from_pretrained(cls, folder: str | Path, encoder: nn.Module | None = None) -> Self:
        """Load what `save` wrote, or the models of a run of `usvs.finetune` (of its best init; the folds are averaged).

        Args:
            folder: of the model or the run.
            encoder: a module of the trained class, for models with an own encoder.

        Raises:
            DataError: for a folder without a model, or one that is damaged.
            ConfigError: for a model of another task.
        """
        models = load_models(folder, encoder)
        task = models[0].task
        if not isinstance(task, cls._task_class):
            raise ConfigError(f"model '{folder}': expected one of {cls._task_title}, got task '{task.name}'")
        made = cls(profile=models[0].settings.profile, **cls._arguments_of(task))
        made.models_ = models
        return made

    @classmethod
    def _arguments_of(cls, task: AnyTask) -> dict[str, Any]:
        """Return the arguments of the constructor that belong to a loaded model's task."""
        return {}

    def __sklearn_clone__(self) -> Self:
        """Return an untrained model with the same arguments."""
        return type(self)(**copy.copy(self.get_params()))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items() if value is not None)
        return f"{type(self).__name__}({arguments})"

    @property
    def _models(self) -> tuple[TrainedModel, ...]:
        models = getattr(self, "models_", None)
        if models is None:
            raise ConfigError(
                f"this {type(self).__name__} is not trained yet: call fit, or load one by from_pretrained"
            )
        return cast("tuple[TrainedModel, ...]", models)
