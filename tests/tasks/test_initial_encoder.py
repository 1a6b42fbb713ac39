from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from usvs.errors import ConfigError, DataError, MissingDependencyError
from usvs.models.registry import build_encoder
from usvs.models.se_resnext import SEResNeXt
from usvs.models.settings import EncoderSettings
from usvs.models.sononet import SonoNet, SonoNetEncoder
from usvs.tasks.initial_encoder import init_names, initial_encoder, parse_init
from usvs.tasks.pretraining.encoders import describe_encoder


def test_inits_are_parsed():
    assert parse_init("random").kind == "random"
    assert parse_init("runs/a").kind == parse_init(Path("runs/a")).kind == "run"
    assert parse_init("video:runs/a") == ("run", Path("runs/a"), "video")
    assert parse_init("sononet:w.npz") == ("sononet", Path("w.npz"), None)
    assert parse_init("imagenet:w.pth").is_external and not parse_init("usvs:a").is_external
    assert init_names(["random", "a/b", "sononet:w.npz", "c/b"]) == ["random", "b_1", "sononet", "b_3"]
    with pytest.raises(ConfigError, match="init 'imagenet:': expected random, RUN"):
        parse_init("imagenet:")


def test_sononet_is_a_backbone_of_its_own(tmp_path, tiny_planes, caplog):
    torch.manual_seed(0)
    network = SonoNet(16)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    small = tiny_planes.model_copy(update={"sononet_pixels": (48, 64)})
    encoder = initial_encoder(f"sononet:{tmp_path / 'weights.pth'}", small)
    assert isinstance(encoder, SonoNetEncoder) and (encoder.height, encoder.columns) == (48, 64)
    assert torch.equal(encoder.features[2][1][0].weight, network.features[2][1][0].weight)
    messages = caplog.text
    assert (
        "sononet: SonoNet, frames resized to 48 x 64: 78 of 78 tensors loaded" in messages and "adaption.0" in messages
    )
    again = build_encoder(describe_encoder(encoder))
    again.load_state_dict(encoder.state_dict())
    frames = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(frames), encoder.eval()(frames))


@pytest.mark.slow
def test_imagenet_is_the_fifty_layer_network_and_says_what_was_loaded(tmp_path, tiny_planes, caplog):
    torch.manual_seed(0)
    state = SEResNeXt(EncoderSettings()).state_dict()
    without_gates = {name: value for name, value in state.items() if ".se." not in name}
    without_gates["conv1.weight"] = torch.randn(64, 3, 7, 7)
    save_file({**without_gates, "fc.bias": torch.zeros(1000)}, tmp_path / "torchvision.safetensors")
    init = f"imagenet:{tmp_path / 'torchvision.safetensors'}"
    encoder = initial_encoder(init, tiny_planes)
    assert encoder.num_features == 2048 and encoder.conv1.in_channels == 1
    assert torch.equal(encoder.layer4[2].conv3.weight, state["layer4.2.conv3.weight"])
    messages = caplog.text
    assert "318 of 382 tensors loaded" in messages and "layer1.0.se.fc1.weight" in messages and "fc.bias" in messages
    assert "folded from RGB to 1 gray channel(s)" in messages and "gates initialised to the identity" in messages
    caplog.clear()
    initial_encoder(init, tiny_planes)
    assert caplog.text == ""  # logged once
    assert build_encoder(describe_encoder(encoder)).num_features == 2048


def test_weights_that_do_not_fit_are_refused(tmp_path, tiny_planes):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(DataError, match=r"expected names such as conv1\.weight"):
        initial_encoder(f"imagenet:{tmp_path / 'other.npz'}", tiny_planes)
    with pytest.raises(DataError, match="SonoNet weights"):
        initial_encoder(f"sononet:{tmp_path / 'other.npz'}", tiny_planes)
    with pytest.raises(DataError, match=r"nowhere\.npz"):
        initial_encoder("sononet:nowhere.npz", tiny_planes)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_nothing_is_downloaded(library, tiny_planes, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="name a file"):
        initial_encoder(f"imagenet:{library}", tiny_planes)


@pytest.mark.slow
def test_a_libraries_own_file_is_found(tmp_path, tiny_planes, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.manual_seed(0)
    torch.save(SEResNeXt(EncoderSettings()).state_dict(), tmp_path / "checkpoints" / "resnext50_32x4d-0.pth")
    assert initial_encoder("imagenet:torchvision", tiny_planes).num_features == 2048


def test_what_a_run_learnt_from_must_be_what_is_claimed(tmp_path, tiny_planes):
    from usvs.losses.settings import ObjectiveSettings
    from usvs.tasks.pretraining.settings import PretrainSettings

    video = ObjectiveSettings(correspondence_weight=0, contrastive_weight=0)
    for name, objective in (("video", video), ("joint", ObjectiveSettings())):
        (tmp_path / name).mkdir()
        settings = PretrainSettings(objective=objective)
        (tmp_path / name / "config.json").write_text(settings.model_dump_json())
    with pytest.raises(ConfigError, match="'video:joint': that run learnt from speech and video"):
        initial_encoder(f"video:{tmp_path / 'joint'}", tiny_planes)
    with pytest.raises(ConfigError, match="'usvs:video': that run learnt from video alone"):
        initial_encoder(f"usvs:{tmp_path / 'video'}", tiny_planes)
    with pytest.raises(ConfigError, match=r"expected a run folder with config\.json"):
        initial_encoder(f"usvs:{tmp_path}", tiny_planes)


def test_the_encoder_knows_its_input_size_and_the_real_output_stride(tiny_planes):
    from usvs.tasks.saliency.settings import SaliencySettings

    encoder = initial_encoder("random", tiny_planes)
    assert encoder.pretrained_cfg["input_size"] == (1, 32, 32)
    assert encoder.pretrained_cfg["crop_fraction"] == tiny_planes.augment.crop_fraction
    gaze = initial_encoder("random", SaliencySettings(model=tiny_planes.model, output_stride=8))
    assert describe_encoder(encoder)["output_stride"] == 16
    assert describe_encoder(gaze)["output_stride"] == 8
    assert build_encoder(describe_encoder(gaze)).stride == 8


def test_an_own_module_is_copied_and_described_by_its_class(tiny_planes):
    class Own(torch.nn.Module):
        num_features = 4

        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 4, 3, stride=4)

        def forward_features(self, images):
            return self.conv(images)

    own = Own()
    encoder = initial_encoder(own, tiny_planes)
    with torch.no_grad():
        encoder.module.conv.weight.zero_()
    assert own.conv.weight.abs().sum() > 0
    description = describe_encoder(encoder)
    assert description["kind"] == "module" and description["class"].endswith("Own")
    with pytest.raises(ConfigError, match=r"without 'forward_features' and 'num_features'"):
        initial_encoder(torch.nn.Linear(2, 2), tiny_planes)
