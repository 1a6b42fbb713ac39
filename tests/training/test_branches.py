"""Two branches on two threads give the bits of one thread, and an error in either ends both."""

import threading
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from usvs.errors import ResourceError
from usvs.models import as_encoder, create_encoder
from usvs.tasks.pretraining.module import PretrainModel
from usvs.tasks.pretraining.settings import pretrain_profile
from usvs.training.memory_estimate import estimate_bytes
from usvs.training.settings import OptimiserSettings, RunSettings
from usvs.training.threads import SMALL_PARAMETERS, ThreadPlan, compute_threads, plan_threads
from usvs.training.trainer import Trainer


class Features(NamedTuple):
    rows: Tensor


class Loss(NamedTuple):
    total: Tensor


class Branched(nn.Module):
    """A branch of frames with dropout, and one of speech."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frames = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4))
        self.speech = nn.Sequential(nn.Linear(5, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, frames: Tensor, speech: Tensor) -> Loss:
        return self.join_branches(self.first_branch(frames, speech), self.second_branch(frames, speech), frames, speech)

    def first_branch(self, frames: Tensor, speech: Tensor) -> Features:
        return Features(self.frames(frames))

    def second_branch(self, frames: Tensor, speech: Tensor) -> Features:
        return Features(self.speech(speech))

    def join_branches(self, first: Features, second: Features, frames: Tensor, speech: Tensor) -> Loss:
        logits = self.scale * first.rows @ second.rows.t()
        return Loss(nn.functional.cross_entropy(logits, torch.arange(logits.size(0))))


class Failing(Branched):
    """A branch that fails once: the other one must have ended when the error is raised."""

    def __init__(self, which: str, error: Exception) -> None:
        super().__init__()
        self.which, self.error, self.running = which, error, 0

    def first_branch(self, frames: Tensor, speech: Tensor) -> Features:
        return self._run("first", frames, self.frames)

    def second_branch(self, frames: Tensor, speech: Tensor) -> Features:
        return self._run("second", speech, self.speech)

    def _run(self, name: str, inputs: Tensor, network: nn.Module) -> Features:
        if name == self.which:
            raise self.error
        self.running += 1
        rows = network(inputs)
        threading.Event().wait(0.05)
        self.running -= 1
        return Features(rows)


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 6, generator=generator), torch.randn(8, 5, generator=generator)


def make(module: nn.Module, threads: int, **run) -> Trainer:
    optimiser = OptimiserSettings(kind="adamw", learning_rate=1e-2)
    return Trainer(module, optimiser, RunSettings(device="cpu", threads=threads, **run), 20, 20)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("how", ["torchscript", "eager"])
def test_two_threads_give_the_bits_of_one(how, precision):
    with compute_threads(ThreadPlan(1, 1)):
        one, two = (make(Branched(), threads, compile=how, precision=precision) for threads in (1, 2))
        values = [[trainer.step(*batch(step)) for step in range(6)] for trainer in (one, two)]
    assert values[0] == values[1]
    first, second = one.state_dict(), two.state_dict()
    assert all(torch.equal(value, second.model[name]) for name, value in first.model.items())
    assert all(torch.equal(value, second.optimiser[name]) for name, value in first.optimiser.items())


def test_each_branch_runs_forward_and_backward_on_its_own_thread():
    module, seen = Branched(), {"frames": set(), "speech": set()}
    for name, found in seen.items():
        layer = getattr(module, name)[0]
        layer.register_forward_hook(lambda *_, found=found: found.add(("forward", threading.get_ident())))
        layer.weight.register_hook(lambda _, found=found: found.add(("backward", threading.get_ident())))
    make(module, 2, compile="eager").step(*batch(0))
    here = threading.get_ident()
    assert seen["frames"] == {("forward", here), ("backward", here)}
    assert len(seen["speech"]) == 2 and here not in {thread for _, thread in seen["speech"]}


@pytest.mark.parametrize("which", ["first", "second"])
def test_an_error_in_a_branch_is_raised_when_both_have_ended(which):
    module = Failing(which, ValueError("no such frame"))
    with pytest.raises(ValueError, match="no such frame"):
        make(module, 2, compile="eager").step(*batch(0))
    assert module.running == 0


@pytest.mark.parametrize("which", ["first", "second"])
def test_memory_that_runs_out_in_a_branch_is_reported_as_without_branches(which):
    with pytest.raises(ResourceError, match="out of memory with 8 clips"):
        make(Failing(which, MemoryError()), 2, compile="eager").step(*batch(0))


def test_branches_are_not_separate_where_the_module_says_so():
    module = Branched()
    module.branches_are_separate = False
    trainer = make(module, 2, compile="eager")
    before = threading.active_count()
    trainer.step(*batch(0))
    assert threading.active_count() <= before  # others may end meanwhile


def test_few_parameters_with_much_arithmetic_are_not_small():
    """SonoNet has a fifth of the parameters and four hundred times the arithmetic of the quick network."""
    cpu, run = torch.device("cpu"), RunSettings(threads=4)
    assert plan_threads(create_encoder("sononet16"), cpu, run) == ThreadPlan(4, 1)
    assert plan_threads(nn.ModuleList([PretrainModel(pretrain_profile("quick"))]), cpu, run) == ThreadPlan(1, 2)


def test_hooks_of_a_network_are_not_called_for_its_plan():
    encoder, calls = create_encoder("sononet16"), []
    for module in encoder.modules():
        module.register_forward_hook(lambda *arguments: calls.append(arguments))
    plan_threads(encoder, torch.device("cpu"), RunSettings(threads=4))
    estimate_bytes(encoder, [torch.zeros(2, 1, 64, 64)], "float32")
    assert not calls


class OfHost(nn.Module):
    """Encoder features that the meta device cannot compute."""

    num_features = 4

    def forward_features(self, images: Tensor) -> Tensor:
        return images[:, :1].expand(-1, 4, -1, -1) * float(images.sum())


def test_an_own_encoder_whose_arithmetic_cannot_be_counted_is_judged_by_its_parameters():
    assert plan_threads(as_encoder(OfHost()), torch.device("cpu"), RunSettings(threads=4)) == ThreadPlan(1, 2)


def test_a_small_network_divides_branches_and_a_large_one_operations():
    small, large = nn.Linear(8, 8), nn.Linear(SMALL_PARAMETERS // 8, 8, device="meta")
    cpu = torch.device("cpu")
    assert plan_threads(small, cpu, RunSettings(threads=4)) == ThreadPlan(1, 2)
    assert plan_threads(small, cpu, RunSettings(threads=1)) == ThreadPlan(1, 1)
    assert plan_threads(large, cpu, RunSettings(threads=4)) == ThreadPlan(4, 1)
    assert plan_threads(small, torch.device("cuda"), RunSettings(threads=4)) == ThreadPlan(4, 1)
    assert plan_threads(large, cpu, RunSettings()).of_operation == torch.get_num_threads()


def test_the_number_of_threads_is_restored():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), compute_threads(ThreadPlan(before + 1, 1)):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError
    assert torch.get_num_threads() == before
