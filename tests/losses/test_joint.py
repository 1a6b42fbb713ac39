import math
import warnings

import pytest
import torch

from usvs.errors import ConfigError
from usvs.losses.contrastive import batch_contrastive
from usvs.losses.correspondence import correspondence_loss
from usvs.losses.frame_order import order_loss
from usvs.losses.joint import JointLoss, JointObjective
from usvs.losses.settings import ObjectiveSettings

VALID = torch.tensor([True, False, True, True, False])


def _inputs(valid=VALID, clips=4):
    generator = torch.Generator().manual_seed(11)
    pairs = len(valid)
    shapes = [(pairs, 2), (pairs, 2), (pairs, 6), (pairs, 6), (pairs, 6)]
    leaves = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    order = torch.randn(clips, 12, generator=generator).requires_grad_()
    return [*leaves, valid, order, torch.randint(12, (clips,), generator=generator)]


def _gradients(inputs):
    return [part.grad for part in inputs if part.requires_grad]


def test_total_is_the_weighted_sum_over_valid_pairs():
    settings = ObjectiveSettings(
        correspondence_weight=0.5, contrastive_weight=2.0, order_weight=3.0, normalise=True, temperature=0.2
    )
    inputs = _inputs()
    losses = JointObjective(settings)(*inputs)
    pairs = [part[VALID] for part in inputs[:5]]
    correspondence, accuracy = correspondence_loss(*pairs[:2])
    contrastive = batch_contrastive(*pairs[2:], True, 0.2, 1.0, "eq2")
    order, order_accuracy = order_loss(inputs[6], inputs[7])
    torch.testing.assert_close(losses.total, 0.5 * correspondence + 2 * contrastive.loss + 3 * order)
    got = losses._asdict()
    expected = {
        "correspondence": correspondence,
        "contrastive": contrastive.loss,
        "order": order,
        "correspondence_accuracy": accuracy,
        "order_accuracy": order_accuracy,
        "retrieval_top1": contrastive.retrieval_top1,
        "retrieval_top1_speech_to_video": contrastive.retrieval_top1_speech_to_video,
        "retrieval_chance": torch.tensor(1 / 3),
        "margin_mean": contrastive.margin_mean,
        "margin_negative_fraction": contrastive.margin_negative_fraction,
        "contrastive_margin_term": contrastive.margin_term,
        "chance_contrastive": contrastive.chance,
        "valid_pairs": torch.tensor(3.0),
    } | dict.fromkeys(
        ("reverse", "stream_frames", "stream_speech", "chance_reverse", "chance_stream_frames", "chance_stream_speech"),
        torch.tensor(0.0),
    )
    assert set(got) == {*expected, "total"}
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, msg=name)
        assert got[name].shape == ()


def test_invalid_pairs_have_no_effect():
    inputs = _inputs()
    with torch.no_grad():
        for part in inputs[:5]:
            part[~VALID] = float("nan")
    losses = JointObjective(ObjectiveSettings())(*inputs)
    losses.total.backward()
    assert all(value.isfinite() for value in losses)
    for gradient in _gradients(inputs)[:5]:
        assert torch.equal(gradient[~VALID], torch.zeros_like(gradient[~VALID]))
        assert gradient[VALID].abs().sum() > 0


@pytest.mark.parametrize("order_weight", [0.0, 1.0])
def test_no_valid_pair_is_exactly_zero_with_zero_gradients(order_weight):
    inputs = _inputs(valid=torch.zeros(3, dtype=torch.bool))
    losses = JointObjective(ObjectiveSettings(order_weight=order_weight))(*inputs)
    losses.total.backward()
    assert losses.correspondence.item() == losses.contrastive.item() == losses.valid_pairs.item() == 0
    assert losses.total.item() == losses.order.item()
    for gradient in _gradients(inputs)[:5]:
        assert torch.equal(gradient, torch.zeros_like(gradient))
    if order_weight:
        assert losses.order.item() > 0


@pytest.mark.parametrize("left_out", ["correspondence", "contrastive", "order"])
def test_a_weight_of_zero_skips_its_term(left_out):
    inputs = _inputs()
    for index in {"correspondence": (0, 1), "contrastive": (2, 3, 4), "order": (6,)}[left_out]:
        inputs[index] = torch.full_like(inputs[index], float("nan")).requires_grad_()
    losses = JointObjective(ObjectiveSettings(**{f"{left_out}_weight": 0.0}))(*inputs)
    losses.total.backward()
    assert losses.total.isfinite()
    assert getattr(losses, left_out).item() == 0
    without = {"correspondence": (0, 1), "contrastive": (2, 3, 4), "order": (5,)}[left_out]
    for index, gradient in enumerate(_gradients(inputs)):
        assert (gradient is None) == (index in without)


def test_all_weights_zero_raises():
    with pytest.raises(ConfigError, match="at least one weight above 0"):
        JointObjective(ObjectiveSettings(correspondence_weight=0, contrastive_weight=0, order_weight=0))


def test_equal_logits_and_embeddings_give_chance():
    zeros = [torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(4, 6), torch.zeros(4, 6), torch.zeros(4, 6)]
    objective = JointObjective(ObjectiveSettings(form="ntxent"))
    losses = objective(*zeros, torch.ones(4, dtype=torch.bool), torch.zeros(3, 12), torch.tensor([0, 5, 11]))
    assert losses.correspondence.item() == pytest.approx(math.log(2), rel=1e-6)
    assert losses.order.item() == pytest.approx(math.log(12), rel=1e-6)
    assert losses.contrastive.item() == pytest.approx(math.log(11), rel=1e-6)
    assert losses.chance_contrastive.item() == pytest.approx(math.log(11), rel=1e-6)


@pytest.mark.parametrize(
    "settings", [ObjectiveSettings(), ObjectiveSettings(form="ntxent", normalise=True, temperature=0.1)]
)
@pytest.mark.parametrize("valid", [VALID, torch.zeros(5, dtype=torch.bool)])
def test_scripted_equals_eager_over_several_runs(settings, valid):
    objective = JointObjective(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(objective)
    for _ in range(3):
        results = []
        for run in (objective, scripted):
            inputs = _inputs(valid)
            losses = run(*inputs)
            losses.total.backward()
            results.append((tuple(losses), _gradients(inputs)))
        torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-6)
    assert tuple(losses._fields) == JointLoss._fields
