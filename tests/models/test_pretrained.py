from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from usvs.errors import ConfigError, DataError, MissingDependencyError
from usvs.models import pretrained
from usvs.models.encoder import as_encoder
from usvs.models.pretrained import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    create_encoder_from_weights,
    load_encoder_weights,
    load_imagenet_weights,
    load_weights,
)
from usvs.models.registry import create_encoder
from usvs.models.se_resnext import SEResNeXt
from usvs.models.settings import EncoderSettings
from usvs.models.sononet import SonoNet, SonoNetEncoder

TINY = EncoderSettings(layers=(1, 1, 1, 1), cardinality=2, base_width=32, stem_width=8, se_ratio=1 / 8)


def test_a_complete_checkpoint_loads_at_any_stride():
    torch.manual_seed(0)
    source, target = SEResNeXt(TINY), SEResNeXt(TINY.model_copy(update={"output_stride": 8}))
    report = load_encoder_weights(target, source.state_dict())
    assert (report.missing, report.unexpected) == ((), ())
    assert set(report.loaded) == set(source.state_dict())
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


def test_missing_and_unexpected_names_are_reported():
    encoder = SEResNeXt(TINY)
    before = encoder.layer1[0].se.fc1.weight.clone()
    state = {name: value + 1 for name, value in SEResNeXt(TINY).state_dict().items() if ".se." not in name}
    report = load_encoder_weights(encoder, {**state, "fc.weight": torch.zeros(10, 256)})
    assert report.unexpected == ("fc.weight",)
    assert len(report.missing) == 4 * 4
    assert all(".se." in name for name in report.missing)
    assert torch.equal(encoder.layer1[0].se.fc1.weight, before)
    assert torch.equal(encoder.conv1.weight, state["conv1.weight"])


def test_another_shape_raises_and_changes_nothing():
    encoder = SEResNeXt(TINY)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    state["layer4.0.conv3.weight"] = torch.zeros(3, 3, 1, 1)
    with pytest.raises(DataError, match=r"layer4\.0\.conv3\.weight.*\[256, 64, 1, 1\].*\[3, 3, 1, 1\]"):
        load_encoder_weights(encoder, state)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_names_of_another_network_raise():
    with pytest.raises(DataError, match=r"expected names such as conv1\.weight.*got features\.0\.weight"):
        load_encoder_weights(SEResNeXt(TINY), {"features.0.weight": torch.zeros(1)})


def imagenet_state(gated: bool) -> dict[str, torch.Tensor]:
    """Weights with three colours and statistics of their own, as timm (gated) or torchvision (not) save them."""
    torch.manual_seed(4)
    network = SEResNeXt(TINY)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "running_var", ".bias")):
            value.uniform_(0.2, 0.6)
    state = {name: value.clone() for name, value in network.state_dict().items() if gated or ".se." not in name}
    state["conv1.weight"] = torch.randn(8, 3, 7, 7) / 8
    return {**state, "fc.weight": torch.zeros(1000, 256), "fc.bias": torch.zeros(1000)}


class ThreeColours(torch.nn.Module):
    """The original network on a gray image shown in all colours, normalised as ImageNet's are."""

    def __init__(self, state: dict[str, torch.Tensor], gated: bool) -> None:
        super().__init__()
        self.net = SEResNeXt(TINY)
        self.net.conv1 = torch.nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
        for block in (module for module in self.net.modules() if hasattr(module, "se")):
            if not gated:
                block.se = torch.nn.Identity()
        own = {name: value for name, value in state.items() if not name.startswith("fc.")}
        self.net.load_state_dict(own, strict=True)

    def forward(self, gray: torch.Tensor) -> torch.Tensor:
        mean, deviation = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_DEVIATION)
        colours = (gray.expand(-1, 3, -1, -1) - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
        return self.net.forward_features(colours)


@pytest.mark.parametrize("gated", [True, False])
def test_imagenet_weights_compute_on_gray_what_they_compute_on_three_colours(gated):
    state = imagenet_state(gated)
    encoder, original = SEResNeXt(TINY).eval(), ThreeColours(state, gated).eval()
    report = load_imagenet_weights(encoder, state, gray_mean=0.25, gray_spread=0.25)
    assert report.unexpected == ("fc.weight", "fc.bias")
    assert len(report.missing) == (0 if gated else 16) and all(".se." in name for name in report.missing)
    assert ("left as they were, 16: layer1.0.se.fc1.weight" in str(report)) is not gated
    # a wide constant border, so that zero padding, the only difference, is far from the middle
    gray = torch.zeros(1, 1, 192, 192)
    gray[..., 90:102, 90:102] = torch.rand(12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stems = (
            encoder.bn1(encoder.conv1((gray - 0.25) / 0.25)),
            original.net.bn1(
                original.net.conv1(
                    (gray.expand(-1, 3, -1, -1) - torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
                    / torch.tensor(IMAGENET_DEVIATION).view(3, 1, 1)
                )
            ),
        )
    torch.testing.assert_close(stems[0][..., 2:-2, 2:-2], stems[1][..., 2:-2, 2:-2], rtol=1e-4, atol=1e-4)
    # after the stem the two networks are equal, including gates initialised to the identity
    maps = torch.rand(1, 8, 20, 20)
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        with torch.no_grad():
            expected, found = getattr(original.net, stage)(maps), getattr(encoder, stage)(maps)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        maps = expected


def test_gates_initialised_to_the_identity_have_gradients():
    encoder = SEResNeXt(TINY)
    load_imagenet_weights(encoder, imagenet_state(gated=False), 0.25, 0.25)
    encoder(torch.rand(4, 1, 32, 32)).square().sum().backward()
    assert encoder.layer1[0].se.fc2.weight.grad.abs().sum() > 0


def test_three_gray_channels_compute_what_one_does():
    state = imagenet_state(gated=True)
    one, three = SEResNeXt(TINY).eval(), SEResNeXt(TINY.model_copy(update={"in_chans": 3})).eval()
    for encoder in (one, three):
        load_imagenet_weights(encoder, state)
    assert three.conv1.weight.shape == (8, 3, 7, 7)
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(three(images), one(images), rtol=1e-4, atol=1e-4)


def test_sources_of_weights(tmp_path):
    torch.manual_seed(0)
    network = SonoNet(16)
    torch.save(network.state_dict(), tmp_path / "sononet.pth")
    encoder, report = create_encoder_from_weights(f"sononet:{tmp_path / 'sononet.pth'}", height=48, columns=64)
    assert isinstance(encoder, SonoNetEncoder) and (encoder.height, encoder.columns) == (48, 64)
    assert len(report.loaded) == 78 and not report.missing and len(report.unexpected) == 12
    assert torch.equal(encoder.features[2][1][0].weight, network.features[2][1][0].weight)
    with pytest.raises(DataError, match="expected shape"):
        load_weights(create_encoder("sononet32"), f"sononet:{tmp_path / 'sononet.pth'}")

    fifty = SEResNeXt(EncoderSettings()).state_dict()
    fifty["conv1.weight"] = torch.randn(64, 3, 7, 7)
    save_file({name: value for name, value in fifty.items() if ".se." not in name}, tmp_path / "imagenet.safetensors")
    encoder, report = create_encoder_from_weights(f"imagenet:{tmp_path / 'imagenet.safetensors'}", output_stride=8)
    assert isinstance(encoder, SEResNeXt) and encoder.stride == 8
    assert torch.equal(encoder.layer4[2].conv3.weight, fifty["layer4.2.conv3.weight"])
    assert len(report.missing) == 64 and report.notes == (
        "first layer folded from RGB to 1 gray channel(s)",
        "weights without squeeze-and-excitation: gates initialised to the identity",
    )
    assert all(note in str(report) for note in report.notes)


@pytest.mark.parametrize("source", ["imagenet", "imagenet:", "random", "timm:", "usvs:run"])
def test_other_sources_are_refused(source):
    with pytest.raises(ConfigError, match="expected imagenet:FILE, imagenet:timm, imagenet:torchvision"):
        load_weights(create_encoder("se_resnext_quick"), source)


def test_weights_of_another_kind_of_encoder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="an encoder of class SEResNeXt cannot load them"):
        load_weights(create_encoder("se_resnext_quick"), "sononet:weights.npz")

    class Own(torch.nn.Module):
        num_features = 1

        def forward_features(self, images):
            return images

    with pytest.raises(ConfigError, match=r"expected an encoder made by create_encoder\('timm:resnet18'\)"):
        load_weights(as_encoder(Own()), "timm:resnet18")


def test_weights_of_a_library_are_read_from_its_cache_and_never_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(pretrained, "cached_file", lambda repository: None)
    encoder = create_encoder("se_resnext50_32x4d")
    for library in ("timm", "torchvision"):
        with pytest.raises(MissingDependencyError, match=f"no weights of {library} on this machine.*name a file"):
            load_weights(encoder, f"imagenet:{library}")
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / "resnext50_32x4d-1a0047aa.pth"
    torch.save(encoder.state_dict(), file)
    assert not load_weights(encoder, "imagenet:torchvision").missing

    def cached(repository: str) -> Path | None:
        return file if repository == "timm/seresnext50_32x4d.gluon_in1k" else None

    monkeypatch.setattr(pretrained, "cached_file", cached)
    assert not load_weights(encoder, "imagenet:timm").missing
