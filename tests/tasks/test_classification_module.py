import numpy as np
import pytest
import torch
from torch.nn import functional as F

from usvs.models.se_resnext import SEResNeXt
from usvs.tasks.classification.module import ClassificationModule, class_weights


@pytest.mark.parametrize(("kind", "ratio"), [("none", 1.0), ("inverse_sqrt", 3.0), ("inverse", 9.0)])
def test_rare_classes_weigh_more_and_the_mean_frame_weighs_one(kind, ratio):
    planes = np.array([0] * 90 + [2] * 10)
    weights = class_weights(planes, 4, kind)
    assert float(weights[2] / weights[0]) == pytest.approx(ratio)
    assert float(weights[torch.from_numpy(planes)].mean()) == pytest.approx(1.0)
    assert weights[1] == weights[3] == 0.0
    assert weights.dtype == torch.float32


def test_the_scripted_loss_is_the_weighted_cross_entropy(tiny_planes):
    torch.manual_seed(0)
    weights = class_weights(np.array([0, 0, 0, 1, 2]), 14, "inverse")
    task = ClassificationModule(SEResNeXt(tiny_planes.model.video), 14, weights).eval()
    frames, planes = torch.randn(5, 1, 32, 32), torch.tensor([0, 1, 2, 0, 1])
    with torch.no_grad():
        logits = task.logits(frames)
        loss = torch.jit.script(task)(frames, planes)
    picked = -F.log_softmax(logits, dim=1)[torch.arange(5), planes]
    assert float(loss.total) == pytest.approx(float((weights[planes] * picked).sum() / weights[planes].sum()), rel=1e-4)
    assert float(loss.accuracy) == pytest.approx(float((logits.argmax(1) == planes).float().mean()))
