"""Fused batch norms in an encoder: the same numbers to rounding, the same names, and none of it in an export."""

import io
import zipfile

import pytest
import torch
from torch import Tensor, nn

from usvs.models.batch_norm_act import BatchNormAct, fuse_batch_norms
from usvs.models.se_resnext import SEResNeXt
from usvs.models.settings import EncoderSettings
from usvs.training.batch_compute import BatchCompute
from usvs.training.batch_norm import RankBatchNorm
from usvs.training.compilation import compile_module
from usvs.training.distributed import ALONE
from usvs.training.settings import OptimiserSettings, RunSettings

IMAGES = torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))


def encoder(fuses: bool) -> SEResNeXt:
    torch.manual_seed(0)
    made = SEResNeXt(EncoderSettings(layers=(1, 1, 2, 1), stem_width=8, base_width=8))
    for norm in made.modules():
        if isinstance(norm, BatchNormAct):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    fuse_batch_norms(made, fuses)
    return made.to(memory_format=torch.channels_last)


def step(module: nn.Module, compiled) -> dict[str, Tensor]:
    features = compiled(IMAGES)
    features.square().sum().backward()
    gradients = {f"{name}.grad": parameter.grad for name, parameter in module.named_parameters()}
    return {"features": features.detach(), **gradients, **dict(module.named_buffers())}


@pytest.mark.parametrize("frozen", [False, True])
def test_fused_equals_plain_to_rounding(frozen: bool):
    found = []
    for fuses in (True, False):
        module = encoder(fuses).double()
        if frozen:
            for norm in module.modules():
                if isinstance(norm, BatchNormAct):
                    norm.eval()
        features = module(IMAGES.double())
        features.square().sum().backward()
        gradients = {f"{name}.grad": parameter.grad for name, parameter in module.named_parameters()}
        found.append({"features": features.detach(), **gradients, **dict(module.named_buffers())})
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-8, atol=1e-9, msg=name)


def test_scripted_equals_eager_bit_for_bit():
    found = [
        step(module, compile_module(module, how)) for how in ("torchscript", "eager") for module in [encoder(True)]
    ]
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_evaluation_is_that_of_the_plain_module():
    with torch.no_grad():
        assert torch.equal(encoder(True).eval()(IMAGES), encoder(False).eval()(IMAGES))


def test_names_of_the_state_dict():
    names = set(encoder(True).state_dict())
    for norm in ("bn1", "layer1.0.bn1", "layer1.0.bn2", "layer1.0.bn3", "layer1.0.downsample.1"):
        kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        assert {f"{norm}.{kind}" for kind in kinds} <= names


def ops_in(module: nn.Module) -> int:
    content = io.BytesIO()
    torch.jit.save(torch.jit.script(module), content)
    with zipfile.ZipFile(content) as archive:
        return sum(archive.read(name).count(b"ops.usvs.") for name in archive.namelist() if name.endswith(".py"))


def test_a_scripted_network_needs_no_op_of_usvs_unless_it_is_trained():
    assert ops_in(encoder(False)) == 0
    assert ops_in(encoder(True)) > 0


@pytest.mark.parametrize(("compile", "fuses"), [("torchscript", True), ("eager", True), ("inductor", False)])
def test_the_trainer_chooses(compile: str, fuses: bool):
    module = encoder(not fuses)
    BatchCompute(module, torch.device("cpu"), OptimiserSettings(), RunSettings(compile=compile), ALONE)
    chosen = [child.fuses for child in module.modules() if hasattr(child, "fuses")]
    assert chosen and set(chosen) == {fuses}


def test_several_processes_keep_the_relu():
    norm = encoder(False).bn1
    for training in (True, False):
        norm.train(training)
        maps = torch.randn(2, 8, 4, 4)
        of_rank = RankBatchNorm(norm, synchronised=False).train(training)
        assert torch.equal(of_rank(maps), norm(maps))
        assert of_rank(maps).min() == 0


def test_a_cumulative_average_of_running_statistics():
    """As of `torch.nn.BatchNorm2d` with momentum None."""
    own, torchs = BatchNormAct(3, relu=False), nn.BatchNorm2d(3)
    own.momentum = torchs.momentum = None
    for fuses in (False, True, False):
        own.fuses = fuses
        maps = torch.randn(2, 3, 4, 4)
        torch.testing.assert_close(own(maps), torchs(maps))
    torch.testing.assert_close(own.running_var, torchs.running_var)
    assert own.num_batches_tracked == 3
