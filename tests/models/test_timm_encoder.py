"""Encoders of timm by name, with timm and with a stand-in."""

import json
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.own_encoder import Own, round_trip
from tests.support.real_timm import import_real_timm
from usvs.errors import ConfigError, MissingDependencyError
from usvs.models.preprocessing import GRAY_SPREAD
from usvs.models.registry import build_encoder, create_encoder, encoder_config

pytestmark = pytest.mark.usefixtures("own_names")


class _FakeTimm(types.ModuleType):
    """As much of timm as is called: one network that says what it was made with."""

    def __init__(self) -> None:
        super().__init__("timm")
        self.calls: list[tuple[str, dict]] = []

    def is_model(self, name: str) -> bool:
        return name.partition(".")[0] == "resnet18"

    def list_models(self) -> list[str]:
        return ["resnet18", "vit_tiny_patch16_224"]

    def create_model(self, name: str, **arguments) -> nn.Module:
        self.calls.append((name, arguments))
        if "output_stride" in arguments and arguments["output_stride"] == 4:
            raise TypeError("unexpected keyword argument 'output_stride'")
        network = Own(arguments["in_chans"])
        network.pretrained_cfg = {
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "input_size": (3, 176, 176),
            "fixed_input_size": arguments.get("fixed", False),
        }
        return network


def test_timm_by_name_through_a_stand_in(monkeypatch, tmp_path):
    timm = _FakeTimm()
    monkeypatch.setitem(sys.modules, "timm", timm)
    encoder = create_encoder("timm:resnet18", in_chans=3, output_stride=16, drop_rate=0.1)
    assert timm.calls == [("resnet18", {"num_classes": 0, "in_chans": 3, "drop_rate": 0.1, "output_stride": 16})]
    assert encoder.pretrained_cfg["input_size"] == (3, 224, 224)
    assert torch.equal(encoder.input_scale, torch.ones(1, 3, 1, 1))
    round_trip(encoder)
    assert create_encoder("timm:resnet18", fixed=True).pretrained_cfg["input_size"] == (1, 176, 176)
    with pytest.raises(ConfigError, match="unknown encoder 'timm:resnet81': did you mean 'timm:resnet18'"):
        create_encoder("timm:resnet81")
    with pytest.raises(ConfigError, match="encoder 'timm:resnet18': unexpected keyword argument 'output_stride'"):
        create_encoder("timm:resnet18", output_stride=4)
    monkeypatch.setattr("usvs.models.timm_encoder.timm_weights_file", lambda name: tmp_path / "w.safetensors")
    encoder = create_encoder("timm:resnet18", in_chans=3, pretrained=True)
    assert timm.calls[-1][1]["pretrained_cfg_overlay"] == {"file": str(tmp_path / "w.safetensors")}
    torch.testing.assert_close(encoder.input_scale.flatten(), GRAY_SPREAD / torch.tensor([0.229, 0.224, 0.225]))
    assert torch.equal(round_trip(encoder).input_offset, encoder.input_offset)


def test_a_missing_timm_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match=r"encoder 'timm:resnet18' needs timm.*pip install timm"):
        create_encoder("timm:resnet18")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_timm_itself(name: str):
    import_real_timm()
    encoder = create_encoder(f"timm:{name}").eval()
    images = encoder.preprocess(np.random.default_rng(0).integers(0, 256, (2, 300, 300), np.uint8))
    with torch.no_grad():
        maps = encoder.forward_features(images)
        torch.testing.assert_close(encoder(images), maps.mean(dim=(2, 3)))
    assert maps.shape[:2] == (2, encoder.num_features) and maps.ndim == 4
    again = build_encoder(json.loads(json.dumps(encoder_config(encoder))))
    assert list(again.state_dict()) == list(encoder.state_dict())
    with pytest.raises(MissingDependencyError, match="usvs downloads nothing"):
        create_encoder(f"timm:{name}", pretrained=True)
