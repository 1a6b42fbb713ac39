"""Small trained networks to export, and the code block of a model card."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support.tiny_models import tiny_encoder
from usvs.config import override_settings
from usvs.models.encoder import Encoder, update_pretrained_cfg
from usvs.models.se_resnext import SEResNeXt
from usvs.tasks.classification.settings import classification_profile
from usvs.tasks.classification.task import ClassificationTask
from usvs.tasks.model_files import TrainedModel, save_model

CLASSES = ("abdomen", "four | chamber", "other")


def randomised(encoder: Encoder) -> Encoder:
    """Return an encoder whose batch norms have statistics like those of a trained one."""
    torch.manual_seed(5)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return encoder.eval()


def small_encoder(pixels: int = 32) -> Encoder:
    encoder = randomised(SEResNeXt(tiny_encoder(output_stride=16)))
    update_pretrained_cfg(encoder, {"input_size": (1, pixels, pixels)})
    return encoder


def save_classifier(folder: Path, encoder: Encoder, folds: int = 1) -> None:
    settings = override_settings(classification_profile("quick"), model={"frame_pixels": 32})
    task = ClassificationTask(CLASSES)
    for number in range(folds):
        torch.manual_seed(number)
        module = task.module(encoder, None, settings).eval()
        save_model(folder if folds == 1 else folder / f"fold_{number}", TrainedModel(task, module, settings, 40))


def run_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Run the code block of a card in its folder, as a reader would."""
    text = (folder / "README.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.S | re.M)
    names: dict = {}
    monkeypatch.chdir(folder)
    exec(compile(block, "README.md", "exec"), names)
    return names
