"""What `reproduce` can run: the presets, and the settings of everything that they train and evaluate."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from usvs.config import Profile, Settings
from usvs.errors import ConfigError
from usvs.experiments.rows import EXTERNAL, PRETRAINED
from usvs.tasks.classification.settings import ClassificationSettings, classification_profile
from usvs.tasks.pretraining.settings import PretrainSettings, pretrain_profile
from usvs.tasks.saliency.settings import SaliencySettings, saliency_profile

PresetName = Literal["paper", "evidence"]
TaskName = Literal["planes", "gaze"]


@dataclass(frozen=True)
class Evaluation:
    """How inits are evaluated, in one group of results.

    Attributes:
        task: what is predicted.
        protocol: everything fine-tuned, or a linear classifier or nearest neighbours on frozen features.
        labels: patients with labels in each fold: all of its training patients, the first `few_patients` of them, or
            these and all patients of the pretraining.
        inits: which rows are evaluated; None for all.
        first_seed_only: for what does not depend on a pretraining.
    """

    task: TaskName
    protocol: Literal["finetune", "probe", "knn"]
    labels: Literal["fold", "few", "everyone"] = "fold"
    inits: tuple[str, ...] | None = None
    first_seed_only: bool = False

    def applies(self, task: TaskName, row: str, first_seed: bool) -> bool:
        """Return whether a row is evaluated on a task in this way with a seed."""
        chosen = self.inits is None or row in self.inits
        return task == self.task and chosen and (first_seed or not self.first_seed_only)


@dataclass(frozen=True)
class Preset:
    """The rows of an experiment and the evaluations of each.

    Attributes:
        rows: inits in the order of the tables.
        pretrained: those of the rows that are pretrained here, in the order in which they are.
        evaluations: by the name of the group of results, in the order in which they are measured.
        evaluate_pretrainings: measure losses and retrieval of each pretraining on the downstream patients.
    """

    rows: tuple[str, ...]
    pretrained: tuple[str, ...]
    evaluations: Mapping[str, Evaluation]
    evaluate_pretrainings: bool

    def of_rows(self, rows: Collection[str] | None) -> "Preset":
        """Return the preset with some of its rows; None for all.

        Raises:
            ConfigError: for no row, or one that the preset does not have.
        """
        if rows is None:
            return self
        if not rows or not set(rows) <= set(self.rows):
            raise ConfigError(f"rows: expected some of {', '.join(self.rows)}, got {', '.join(rows) or 'none'}")
        chosen, pretrained = (tuple(row for row in of if row in rows) for of in (self.rows, self.pretrained))
        return replace(self, rows=chosen, pretrained=pretrained)


PRESETS: dict[PresetName, Preset] = {
    # Tables 1, 2 and 3 and Figures 3 and 4 of the paper, with the control Shuffled.
    "paper": Preset(
        rows=("random", *PRETRAINED, *EXTERNAL),
        pretrained=PRETRAINED,
        evaluations={
            "probe": Evaluation("planes", "probe"),
            "knn": Evaluation("planes", "knn"),
            "planes": Evaluation("planes", "finetune"),
            "gaze": Evaluation("gaze", "finetune"),
        },
        evaluate_pretrainings=True,
    ),
    # Does pretraining learn from speech: Ours against Shuffled and Rand, with few labels and with all.
    "evidence": Preset(
        rows=("random", "shuffled", "joint"),
        pretrained=("shuffled", "joint"),
        evaluations={
            "probe": Evaluation("planes", "probe"),
            "probe, few labels": Evaluation("planes", "probe", labels="few"),
            "fine-tuned, few labels": Evaluation("planes", "finetune", labels="few"),
            "ceiling": Evaluation("planes", "finetune", "everyone", inits=("random",), first_seed_only=True),
        },
        evaluate_pretrainings=False,
    ),
}


class ReproduceSettings(Settings):
    """What is trained and evaluated; `reproduce_profile` returns the settings of a profile and a preset."""

    preset: PresetName = "paper"
    """What is measured."""
    profile: Profile = "paper"
    """Profile that these settings started from."""
    pretrain: PretrainSettings = PretrainSettings()
    """Pretraining of each row."""
    planes: ClassificationSettings = ClassificationSettings()
    """Standard-plane detection."""
    gaze: SaliencySettings = SaliencySettings()
    """Gaze-saliency prediction."""
    pretraining_fraction: float = Field(0.6, gt=0, lt=1)
    """Fraction of the patients that are for pretraining; the others are for labels and tests."""
    keep_networks: bool = True
    """Save every fold's fine-tuned network."""
    few_patients: int = Field(2, ge=1)
    """Patients with labels in each fold, for evaluations with few labels."""
    ceiling_epochs: int = Field(12, ge=1)
    """Epochs of fine-tuning with the labels of all patients."""


def reproduce_profile(profile: Profile, preset: PresetName = "paper") -> ReproduceSettings:
    """Return the settings of a profile for a preset: those of each step, with a part of the patients for validation.

    In the preset ``paper`` every clip is used for the frame-order task, as in the paper: with the fraction of the quick
    profile, 0.25, the row Video stays at chance.
    """
    pretraining = pretrain_profile(profile)
    if preset == "evidence":
        pretraining = pretraining.model_copy(update={"validation_fraction": 0.15})
    else:
        objective = pretraining.objective.model_copy(update={"order_fraction": 1.0})
        pretraining = pretraining.model_copy(update={"validation_fraction": 0.1, "objective": objective})
    return ReproduceSettings(
        preset=preset,
        profile=profile,
        pretrain=pretraining,
        planes=classification_profile(profile),
        gaze=saliency_profile(profile),
        keep_networks=preset == "paper",
    )
