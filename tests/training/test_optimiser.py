import math

import pytest
import torch
from torch import nn

from usvs.training.optimiser import learning_rate, load_optimiser_tensors, make_optimiser, optimiser_tensors
from usvs.training.settings import OptimiserSettings


def test_step_schedule_is_the_papers():
    settings = OptimiserSettings()
    rates = [learning_rate(epoch * 7, 80 * 7, 7, settings) for epoch in (0, 19, 20, 39, 40, 60, 79)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-6, 1e-6])
    assert learning_rate(20 * 7 - 1, 80 * 7, 7, settings) == 1e-3  # the last step of epoch 19


@pytest.mark.parametrize("total", [5, 17, 100])
def test_one_cycle_is_torchs(total):
    settings = OptimiserSettings(kind="adamw", schedule="one_cycle", learning_rate=1e-2)
    optimiser = torch.optim.SGD(nn.Linear(1, 1).parameters(), 1e-2)
    peer = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=total)
    for step in range(total):
        assert learning_rate(step, total, 3, settings) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-12)
        optimiser.step()
        if step < total - 1:
            peer.step()


@pytest.mark.parametrize("total", [1, 2, 3])
def test_one_cycle_of_a_very_short_run_is_finite(total):
    settings = OptimiserSettings(kind="adamw", schedule="one_cycle")
    rates = [learning_rate(step, total, 1, settings) for step in range(total)]
    assert all(0 < rate <= settings.learning_rate and math.isfinite(rate) for rate in rates)


def test_adamw_spares_norms_and_biases_and_sgd_does_not():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    adamw = make_optimiser(module, OptimiserSettings(kind="adamw", weight_decay=0.1))
    decayed = {tuple(p.shape) for g in adamw.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {(4, 1, 3, 3)}
    sgd = make_optimiser(module, OptimiserSettings(weight_decay=0.1))
    assert [g["weight_decay"] for g in sgd.param_groups] == [0.1]
    assert sum(len(g["params"]) for g in sgd.param_groups) == 4


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_saved_state_keeps_the_memory_format_of_its_parameter(kind):
    settings = OptimiserSettings(kind=kind)
    module = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    optimiser = make_optimiser(module, settings)
    module(torch.randn(2, 4, 8, 8)).square().sum().backward()
    optimiser.step()
    saved = {name: value.clone().contiguous() for name, value in optimiser_tensors(optimiser, module).items()}
    assert "weight/step" in saved or "weight/momentum_buffer" in saved

    again = make_optimiser(module, settings)
    load_optimiser_tensors(again, module, saved)
    state = again.state[module.weight]
    for quantity, value in optimiser.state[module.weight].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(state[quantity], value)
            assert state[quantity].stride() == value.stride()
