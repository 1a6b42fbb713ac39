"""A loss of one's own has the interface that pretraining calls."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from usvs.losses import GlobalBatch, JointObjective, ObjectiveSettings, PretrainingLoss, loss_requirements


class InfoNCELosses(NamedTuple):
    total: Tensor
    pairs: Tensor


class InfoNCE(torch.nn.Module):
    """From video to speech, without hard negatives and without the order task."""

    def __init__(self) -> None:
        super().__init__()
        self.uses_order: bool = False

    def forward(
        self,
        positive_logits: Tensor,
        negative_logits: Tensor,
        video: Tensor,
        positive: Tensor,
        negative: Tensor,
        pair_valid: Tensor,
        order_logits: Tensor,
        order_class: Tensor,
        global_batch: GlobalBatch | None = None,
    ) -> InfoNCELosses:
        valid = pair_valid.nonzero().flatten().to(video.device)
        similarity = video.index_select(0, valid) @ positive.index_select(0, valid).t()
        own = torch.arange(valid.size(0), device=video.device)
        return InfoNCELosses(F.cross_entropy(similarity, own), own.new_full((), valid.size(0)))


def inputs(pairs: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    leaves = [torch.randn(pairs, width, generator=generator).requires_grad_() for width in (2, 2, 6, 6, 6)]
    return [*leaves, torch.tensor([True, True, False, True, True]), torch.zeros(0, 12), torch.zeros(0).long()]


def test_an_own_loss_runs_eager_and_scripted():
    loss = InfoNCE()
    assert isinstance(loss, PretrainingLoss) and isinstance(JointObjective(ObjectiveSettings()), PretrainingLoss)
    for run in (loss, torch.jit.script(loss)):
        batch = inputs()
        result = run(*batch)
        result.total.backward()
        assert result.pairs == 4 and torch.equal(batch[2].grad[2], torch.zeros(6))
        assert set(result._asdict()) == {"total", "pairs"}
    assert not isinstance(torch.zeros(1), PretrainingLoss)


def test_requirements_are_read_from_attributes_and_default_to_everything():
    assert loss_requirements(InfoNCE()) == (True, False, True)
    assert loss_requirements(torch.nn.Identity()) == (True, True, True)
    for weights, expected in (
        ((1, 1, 1), (True, True, True)),
        ((1, 0, 0), (True, False, False)),
        ((0, 1, 0), (True, False, True)),
        ((0, 0, 1), (False, True, False)),
    ):
        names = ("correspondence_weight", "contrastive_weight", "order_weight")
        objective = JointObjective(ObjectiveSettings(**dict(zip(names, weights, strict=True))))
        assert loss_requirements(objective) == loss_requirements(torch.jit.script(objective)) == expected
