import pytest
import torch

from usvs.errors import DataError
from usvs.models.pretrained import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    load_encoder_weights,
    load_imagenet_weights,
)
from usvs.models.se_resnext import SEResNeXt
from usvs.models.settings import EncoderSettings

TINY = EncoderSettings(layers=(1, 1, 1, 1), cardinality=2, base_width=32, stem_width=8, se_ratio=1 / 8)


def test_a_whole_checkpoint_loads_whatever_the_stride():
    torch.manual_seed(0)
    source, target = SEResNeXt(TINY), SEResNeXt(TINY.model_copy(update={"output_stride": 8}))
    report = load_encoder_weights(target, source.state_dict())
    assert (report.missing, report.unexpected) == ((), ())
    assert set(report.loaded) == set(source.state_dict())
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


def test_what_is_missing_and_what_is_not_known_is_said():
    encoder = SEResNeXt(TINY)
    before = encoder.layer1[0].se.fc1.weight.clone()
    state = {name: value + 1 for name, value in SEResNeXt(TINY).state_dict().items() if ".se." not in name}
    report = load_encoder_weights(encoder, {**state, "fc.weight": torch.zeros(10, 256)})
    assert report.unexpected == ("fc.weight",)
    assert len(report.missing) == 4 * 4
    assert all(".se." in name for name in report.missing)
    assert torch.equal(encoder.layer1[0].se.fc1.weight, before)
    assert torch.equal(encoder.conv1.weight, state["conv1.weight"])


def test_another_shape_is_refused_and_nothing_changed():
    encoder = SEResNeXt(TINY)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    state["layer4.0.conv3.weight"] = torch.zeros(3, 3, 1, 1)
    with pytest.raises(DataError, match=r"layer4\.0\.conv3\.weight.*\[256, 64, 1, 1\].*\[3, 3, 1, 1\]"):
        load_encoder_weights(encoder, state)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_names_of_another_network_are_refused():
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
    # a wide border that is even, so that zero padding is the only difference and lies far from the middle
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
    # after the stem the two are the same network, gates that begin as the identity included
    maps = torch.rand(1, 8, 20, 20)
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        with torch.no_grad():
            expected, found = getattr(original.net, stage)(maps), getattr(encoder, stage)(maps)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        maps = expected


def test_a_gate_that_begins_as_the_identity_can_learn():
    encoder = SEResNeXt(TINY)
    load_imagenet_weights(encoder, imagenet_state(gated=False), 0.25, 0.25)
    encoder(torch.rand(4, 1, 32, 32)).square().sum().backward()
    assert encoder.layer1[0].se.fc2.weight.grad.abs().sum() > 0
