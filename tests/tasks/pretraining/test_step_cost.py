from pathlib import Path

import pytest
import torch
from torch import nn

from usvs.tasks.pretraining.settings import pretrain_profile
from usvs.tasks.pretraining.step_cost import H100, count_flop, count_step

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "performance.md").read_text()


def cost_of(profile, precision):
    settings = pretrain_profile(profile)
    return count_step(settings.model_copy(update={"run": settings.run.model_copy(update={"precision": precision})}))


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_gradients_take_twice_the_operations_of_a_convolution(layer, groups):
    made = layer(8, 16, 3, stride=2, padding=1, groups=groups)
    maps = torch.randn(2, 8, 12, 12, requires_grad=True)
    with (forward := count_flop()):
        result = made(maps)
    with (backward := count_flop()):
        result.sum().backward()
    assert backward.get_total_flops() == 2 * forward.get_total_flops() > 0


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "precision"), [("paper", "float32"), ("paper", "bfloat16"), ("quick", "float32")])
def test_the_page_says_what_is_counted(profile, precision):
    cost = cost_of(profile, precision)
    flop, moved = cost.flop / cost.clips / 1e9, cost.bytes / cost.clips / 1e9
    assert f"| {profile} | {precision} | {flop:.1f} GFLOP | {moved:.2f} GB | {cost.flop / cost.bytes:.0f} |" in PAGE


@pytest.mark.slow
def test_the_page_says_what_the_roofline_gives():
    cost = cost_of("paper", "bfloat16")
    for devices in (1, 8):
        seconds = cost.seconds_at_least(H100, devices)
        hours, all_hours = (cost.epochs_hours(seconds, 10_000.0, 2.0, epochs) for epochs in (1, 80))
        assert f"| {cost.clips / seconds:.0f} | {hours:.2g} h | {all_hours:.3g} h |" in PAGE


@pytest.mark.slow
def test_operations_grow_with_clips_and_not_with_precision():
    base = pretrain_profile("quick")
    twice = base.model_copy(update={"optimiser": base.optimiser.model_copy(update={"batch_clips": 64})})
    one, two = count_step(base), count_step(twice)
    assert two.flop == pytest.approx(2 * one.flop, rel=0.01) and two.parameters == one.parameters
    assert cost_of("quick", "bfloat16").flop == one.flop


@pytest.mark.slow
def test_the_page_says_what_several_gpus_exchange():
    cost = cost_of("paper", "bfloat16")
    one = cost.seconds_at_least(H100)

    def exchange(count, link):
        return 2 * (count - 1) / count * 4 * cost.parameters / link

    assert "within a machine 450 GB/s, between machines 50 GB/s" in PAGE and H100.link_bytes_per_second == 450e9
    for name, seconds in (("8 GPUs in one machine", exchange(8, 450e9)), ("64 GPUs in eight", exchange(64, 50e9))):
        overlapped = one / max(one, one / 3 + seconds)
        assert (
            f"| {name} | {1e3 * one:.1f} ms | {1e3 * seconds:.1f} ms | {one / (one + seconds):.0%}".replace("%", " %")
            + f" | {overlapped:.0%} |".replace("%", " %")
            in PAGE
        )
    few, seconds = one / 8, exchange(64, 50e9)
    assert (
        f"longer than the computation ({1e3 * few:.1f} ms): {few / (few / 3 + seconds):.0%}".replace("%", " %") in PAGE
    )
