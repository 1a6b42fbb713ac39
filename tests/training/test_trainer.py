from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from usvs.errors import DataError, ResourceError
from usvs.models.narrow_convolution import WideningConv2d
from usvs.training.settings import OptimiserSettings, RunSettings
from usvs.training.trainer import NonFiniteError, Trainer, TrainerState, choose_device


class ToyLoss(NamedTuple):
    total: Tensor
    accuracy: Tensor


class ToyTask(nn.Module):
    """A convolution, batch norm, dropout and two classes."""

    def __init__(self, seed: int = 0, dropout: float = 0.5) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(1, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.mix = nn.Conv2d(8, 8, 3, groups=2)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, 2)
        self.unused = nn.Linear(3, 3)

    def forward(self, frames: Tensor, labels: Tensor) -> ToyLoss:
        features = torch.relu(self.mix(torch.relu(self.norm(self.conv(frames)))))
        logits = self.head(self.dropout(features.mean([2, 3])))
        total = nn.functional.cross_entropy(logits, labels)
        return ToyLoss(total, (logits.argmax(1) == labels).float().mean())


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    labels = torch.randint(0, 2, (16,), generator=generator)
    return torch.randn(16, 1, 12, 12, generator=generator) + labels[:, None, None, None], labels


def make(steps: int = 8, seed: int = 0, **run) -> Trainer:
    optimiser = OptimiserSettings(kind=run.pop("kind", "adamw"), learning_rate=1e-2, schedule="one_cycle")
    return Trainer(ToyTask(seed), optimiser, RunSettings(device="cpu", seed=seed, **run), steps, 4)


def train(trainer: Trainer, start: int, stop: int) -> Trainer:
    for step in range(start, stop):
        trainer.step(*batch(step))
    return trainer


def same_bits(a: Trainer, b: Trainer) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return all(
        x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)
        for x, y in ((first.model, second.model), (first.optimiser, second.optimiser))
    )


def copied(state: TrainerState) -> TrainerState:
    def copy(tensors):
        return {name: value.clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}

    return TrainerState(copy(state.model), copy(state.optimiser), state.step)


def test_it_learns_and_reports_every_field():
    trainer = Trainer(ToyTask(dropout=0.0), OptimiserSettings(kind="adamw", learning_rate=1e-2), RunSettings(), 40, 40)
    first = trainer.step(*batch(0))
    assert set(first) == {"total", "accuracy", "gradient_norm", "learning_rate"}
    train(trainer, 1, 40)
    unseen = trainer.evaluate(*batch(1000))
    assert set(unseen) == {"total", "accuracy"}
    assert unseen["total"] < 0.3 < first["total"]
    assert trainer.step_number == 40


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_scripted_steps_equal_eager_ones_bit_for_bit(kind, precision):
    scripted = train(make(compile="torchscript", kind=kind, precision=precision), 0, 6)
    eager = train(make(compile="eager", kind=kind, precision=precision), 0, 6)
    assert same_bits(scripted, eager)


@pytest.mark.slow
def test_inductor_steps_equal_eager_ones_but_for_rounding_dropout_included():
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        get_cpp_compiler()
    except Exception as error:
        pytest.skip(f"inductor cannot compile here: {error!r}")

    def trained(how: str) -> Trainer:
        optimiser = OptimiserSettings(kind="sgd", learning_rate=1e-2)
        trainer = Trainer(ToyTask().double(), optimiser, RunSettings(device="cpu", compile=how), 6, 6)
        for step in range(6):
            frames, labels = batch(step)
            trainer.step(frames.double(), labels)
        return trainer

    compiled, eager = (trained(how).state_dict().model for how in ("inductor", "eager"))
    start = ToyTask().double().state_dict()
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-10, atol=1e-10)
    assert (eager["head.weight"] - start["head.weight"]).norm() > 1e-3


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_same_seed_same_bits_and_another_seed_others(kind, precision):
    one, two = (train(make(kind=kind, precision=precision), 0, 6) for _ in range(2))
    assert same_bits(one, two)
    assert not same_bits(one, train(make(kind=kind, precision=precision, seed=1), 0, 6))


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_resumed_equals_undisturbed_bit_for_bit(kind):
    undisturbed = train(make(kind=kind), 0, 8)
    half = copied(train(make(kind=kind), 0, 3).state_dict())
    resumed = make(kind=kind)
    resumed.evaluate(*batch(99))  # what happens between must not matter
    resumed.load_state_dict(half)
    assert resumed.step_number == 3
    assert same_bits(train(resumed, 3, 8), undisturbed)


def test_evaluation_changes_nothing():
    trainer = train(make(), 0, 2)
    before = copied(trainer.state_dict())
    values = trainer.evaluate(*batch(5))
    assert trainer.evaluate(*batch(5)) == values
    assert all(torch.equal(before.model[name], value) for name, value in trainer.state_dict().model.items())
    assert same_bits(train(trainer, 2, 4), train(make(), 0, 4))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_bfloat16_on_a_cpu_widens_convolutions(precision):
    """Those of one column are wrong on processors with AMX; see `usvs.models.narrow_convolution`."""
    module = ToyTask(0)
    module.add_module("convolution", nn.Conv2d(1, 1, 3, 2))
    Trainer(module, OptimiserSettings(), RunSettings(device="cpu", precision=precision, compile="eager"), 8, 4)
    assert isinstance(module.convolution, WideningConv2d) == (precision == "bfloat16")


def test_gradient_is_clipped():
    settings = OptimiserSettings(kind="sgd", momentum=0.0, weight_decay=0.0, learning_rate=1.0, clip_norm=1e-3)
    trainer = Trainer(ToyTask(), settings, RunSettings(device="cpu"), 4, 4)
    before = copied(trainer.state_dict()).model
    norm = trainer.step(*batch(0))["gradient_norm"]
    moved = sum(
        (trainer.module.get_parameter(n) - before[n]).square().sum() for n, _ in trainer.module.named_parameters()
    )
    assert norm > 1e-2  # the norm before clipping
    assert float(moved.detach()) ** 0.5 == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_loss_stops_before_the_update(bad):
    trainer = train(make(), 0, 2)
    before = [parameter.clone() for parameter in trainer.module.parameters()]
    frames, labels = batch(2)
    frames[3] = bad
    with pytest.raises(NonFiniteError, match="step 2: the loss is nan"):
        trainer.step(frames, labels)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.module.parameters(), strict=True))
    assert trainer.step_number == 2


def test_non_finite_gradient_of_a_finite_loss_stops_before_the_update():
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, labels: Tensor) -> ToyLoss:
            return ToyLoss(self.weight.sqrt().sum(), labels.sum())

    trainer = Trainer(Root(), OptimiserSettings(), RunSettings(device="cpu"), 4, 4)
    with pytest.raises(NonFiniteError, match="gradient norm is inf"):
        trainer.step(torch.zeros(1))
    assert torch.equal(trainer.module.get_parameter("weight"), torch.zeros(3))


def test_state_of_another_model_is_refused():
    trainer = make()
    state = copied(trainer.state_dict())
    state.model["conv.weight"] = torch.zeros(4, 1, 3, 3)
    with pytest.raises(DataError, match=r"conv\.weight"):
        trainer.load_state_dict(state)


def test_devices():
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ResourceError, match="no device 'tpu'"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ResourceError, match="no device 'cuda'"):
            choose_device("cuda")
