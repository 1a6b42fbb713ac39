"""Encoders by name: created, registered, adapted, stored and made again."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import usvs
from tests.support.own_encoder import Own, round_trip
from usvs.errors import ConfigError, DataError
from usvs.models import registry
from usvs.models.encoder import Encoder, FeatureModule, as_encoder, update_pretrained_cfg
from usvs.models.preprocessing import GRAY_MEAN, preprocess_images
from usvs.models.registry import build_encoder, create_encoder, encoder_config, list_encoders, register_encoder
from usvs.models.se_resnext import SEResNeXt
from usvs.models.settings import QUICK_ENCODER, EncoderSettings, ModelSettings
from usvs.models.sononet import SonoNetEncoder
from usvs.models.two_stream import TwoStream

pytestmark = pytest.mark.usefixtures("own_names")

TINY = {"layers": (1, 1, 1, 1), "cardinality": 2, "base_width": 32, "stem_width": 16, "se_ratio": 1 / 8}


def test_names_are_listed():
    assert {"se_resnext50_32x4d", "se_resnext_quick", "sononet16", "sononet32", "sononet64"} <= set(list_encoders())
    assert usvs.create_encoder is create_encoder and usvs.register_encoder is register_encoder
    assert usvs.list_encoders() == list_encoders() == sorted(list_encoders())


@pytest.mark.parametrize(
    ("name", "settings"), [("se_resnext50_32x4d", EncoderSettings()), ("se_resnext_quick", QUICK_ENCODER)]
)
def test_weights_are_drawn_as_from_the_settings(name: str, settings: EncoderSettings):
    torch.manual_seed(1)
    expected = SEResNeXt(settings).state_dict()
    torch.manual_seed(1)
    found = create_encoder(name).state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("se_resnext50_32x4d", {"output_stride": 8, "layers": (1, 1, 1, 1)}),
        ("se_resnext_quick", {}),
        ("se_resnext_quick", {"in_chans": 3, "output_stride": 32, "pretrained_cfg": {"crop_fraction": 0.5}}),
        ("se_resnext", {**TINY, "output_stride": 8}),
        ("sononet16", {"height": 48, "columns": 64}),
    ],
)
def test_features_and_round_trip(name: str, arguments: dict):
    encoder = create_encoder(name, **arguments)
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        maps = encoder.eval().forward_features(images)
        torch.testing.assert_close(encoder(images), maps.mean(dim=(2, 3)))
    assert maps.shape[:2] == (2, encoder.num_features)
    assert isinstance(encoder, Encoder) and isinstance(encoder, FeatureModule)
    round_trip(encoder)


def test_configs_name_the_preset():
    assert encoder_config(SEResNeXt(QUICK_ENCODER))["name"] == "se_resnext_quick"
    config = encoder_config(SEResNeXt(EncoderSettings(output_stride=8, layers=(1, 1, 1, 1))))
    assert (config["name"], config["output_stride"]) == ("se_resnext", 8)
    assert encoder_config(SEResNeXt(EncoderSettings(in_chans=3)))["name"] == "se_resnext50_32x4d"
    config = encoder_config(SonoNetEncoder(16))
    assert (config["name"], config["kwargs"]) == ("sononet16", {"height": 224, "columns": 288})
    config = encoder_config(SEResNeXt(EncoderSettings(**TINY)))
    assert (config["name"], config["kwargs"]) == ("se_resnext", {**TINY, "layers": [1, 1, 1, 1]})


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("se_resnext50", {}, "unknown encoder 'se_resnext50': did you mean 'se_resnext"),
        ("zzz", {}, "unknown encoder 'zzz': expected .*sononet64 or timm:<name>"),
        ("se_resnext_quick", {"output_stride": 5}, "setting 'output_stride'"),
        ("se_resnext_quick", {"widht": 5}, "setting 'widht'"),
        ("sononet16", {"in_chans": 3}, "expected in_chans 1 and output_stride 16, got 3 and None"),
        ("sononet16", {"size": 3}, "unknown argument 'size', expected height or columns"),
        (
            "se_resnext_quick",
            {"pretrained_cfg": {"input_size": (3, 64, 64)}},
            r"expected input_size \(1, P, P\), got \(3",
        ),
        ("se_resnext_quick", {"pretrained_cfg": {"crop_pct": 1}}, "unknown field 'crop_pct'"),
        ("se_resnext_quick", {"pretrained_cfg": {"crop_fraction": 0}}, "expected crop_fraction above 0"),
        ("se_resnext_quick", {"pretrained_cfg": {"mean": [0.5]}}, r"expected mean \[0\.25\], got \[0\.5\]"),
    ],
)
def test_what_is_unknown_is_refused(name: str, arguments: dict, words: str):
    with pytest.raises(ConfigError, match=words):
        create_encoder(name, **arguments)


def test_preprocess_gives_the_input_of_evaluation():
    encoder = create_encoder("se_resnext_quick", pretrained_cfg={"crop_fraction": 0.8})
    frames = np.random.default_rng(0).integers(0, 256, (3, 100, 100), np.uint8)
    assert encoder.pretrained_cfg["input_size"] == (1, 64, 64)
    assert torch.equal(encoder.preprocess(frames), preprocess_images(frames, 64, 0.8))
    update_pretrained_cfg(encoder, {"input_size": [1, 32, 32], "crop_fraction": 1.0})
    assert torch.equal(encoder.preprocess(frames), preprocess_images(frames, 32, 1.0))
    three = create_encoder("se_resnext_quick", in_chans=3)
    images = three.preprocess(frames)
    assert images.shape == (3, 3, 64, 64) and three.pretrained_cfg["mean"] == (GRAY_MEAN,) * 3
    assert torch.equal(images[:, 1:2], preprocess_images(frames, 64))
    with torch.no_grad():
        assert torch.equal(three.eval()(images), three(images[:, :1]))


def test_three_channels_see_what_one_channel_sees():
    one, three = create_encoder("se_resnext_quick").eval(), create_encoder("se_resnext_quick", in_chans=3).eval()
    state = one.state_dict()
    three.load_state_dict({**state, "conv1.weight": state["conv1.weight"].repeat(1, 3, 1, 1) / 3})
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(three(images), one(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("in_chans", [1, 3])
def test_scripted_equals_eager_bit_for_bit(in_chans: int):
    encoder = create_encoder("se_resnext_quick", in_chans=in_chans)
    own = as_encoder(Own(in_chans), in_chans, mean=[0.5] * in_chans, std=[0.2] * in_chans)
    images = torch.randn(4, 1, 64, 64)
    for module in (encoder, own):
        with torch.jit.optimized_execution(False):
            scripted = torch.jit.script(module)
            for mode in (True, False):
                module.train(mode), scripted.train(mode)
                assert torch.equal(scripted(images), module(images))
                assert torch.equal(scripted.forward_features(images), module.forward_features(images))
        assert list(scripted.state_dict()) == list(module.state_dict())


def test_an_own_module_becomes_an_encoder():
    module = Own()
    encoder = as_encoder(module, frame_pixels=48)
    assert as_encoder(encoder) is encoder and encoder.num_features == 6
    frames = np.random.default_rng(0).integers(0, 256, (2, 60, 60), np.uint8)
    images = encoder.preprocess(frames)
    assert images.shape == (2, 1, 48, 48)
    with torch.no_grad():
        assert torch.equal(encoder.forward_features(images), module.forward_features(images))
        torch.testing.assert_close(encoder(images), module.forward_features(images).mean(dim=(2, 3)))
    with pytest.raises(ConfigError, match=r"encoder Own: it cannot be stored.*register_encoder"):
        encoder_config(encoder)


def test_an_own_normalisation_is_converted():
    module = Own(in_chans=3)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    encoder = as_encoder(module, in_chans=3, frame_pixels=48, mean=mean, std=std)
    frames = np.random.default_rng(0).integers(0, 256, (2, 48, 48), np.uint8)
    update_pretrained_cfg(encoder, {"crop_fraction": 1.0})
    levels = torch.from_numpy(frames)[:, None].expand(-1, 3, -1, -1) / 255
    normalised = (levels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        found = encoder.forward_features(encoder.preprocess(frames))
    torch.testing.assert_close(found, module.forward_features(normalised), rtol=1e-5, atol=1e-5)
    assert {"input_scale", "input_offset", "module.conv.weight"} <= set(encoder.state_dict())
    with pytest.raises(ConfigError, match=r"expected 3 numbers each, got \[0\.5\]"):
        as_encoder(module, 3, mean=[0.5], std=[0.5])


@pytest.mark.parametrize("layout", ["NHWC", "tokens"])
def test_feature_maps_of_other_layouts_are_rearranged(layout: str):
    class Rearranged(Own):
        def forward_features(self, images: Tensor) -> Tensor:
            maps = super().forward_features(images)
            if layout == "NHWC":
                return maps.permute(0, 2, 3, 1)
            tokens = maps.flatten(2).transpose(1, 2)
            return torch.cat((tokens[:, :1] * 100, tokens), dim=1)

    module = Rearranged()
    module.output_fmt, module.num_prefix_tokens = ("NHWC" if layout == "NHWC" else "NLC"), 1
    images = torch.randn(2, 1, 32, 64)
    with torch.no_grad():
        maps = as_encoder(module).forward_features(images)
    assert torch.equal(maps, Own.forward_features(module, images)) and maps.shape == (2, 6, 8, 16)


def test_what_is_no_encoder_is_refused():
    with pytest.raises(ConfigError, match=r"got a Linear without 'forward_features' and 'num_features'"):
        as_encoder(nn.Linear(2, 2))
    wrong = Own()
    wrong.num_features = 7
    with pytest.raises(RuntimeError, match=r"expected \[N, 7, h, w\], got \[2, 6, 8, 8\]"):
        as_encoder(wrong)(torch.randn(2, 1, 32, 32))


def test_a_registered_encoder_is_made_stored_and_made_again():
    register_encoder("own")(Own)
    assert "own" in list_encoders()
    encoder = create_encoder("own", in_chans=3, width=5, pretrained_cfg={"input_size": (3, 32, 32)})
    assert encoder.num_features == 5 and encoder.pretrained_cfg["input_size"] == (3, 32, 32)
    assert round_trip(encoder).in_chans == 3

    @register_encoder("own")  # as a notebook that runs its cell again
    def make(**kwargs: int) -> nn.Module:
        return Own(width=kwargs.get("output_stride", 4))

    assert create_encoder("own").num_features == 4
    assert create_encoder("own", output_stride=9).num_features == 9
    round_trip(create_encoder("own", output_stride=9))


def test_a_registered_encoder_gets_what_it_takes():
    register_encoder("fixed")(lambda: Own())
    assert create_encoder("fixed").num_features == 6
    with pytest.raises(ConfigError, match="encoder 'fixed': it takes no in_chans, got in_chans=3"):
        create_encoder("fixed", in_chans=3)
    with pytest.raises(ConfigError, match="encoder 'fixed': unknown argument 'width', expected some of none"):
        create_encoder("fixed", width=3)
    for name in ("timm:resnet18", "sononet16"):
        with pytest.raises(ConfigError, match="expected a name that usvs does not use"):
            register_encoder(name)


def test_a_stored_encoder_that_is_unknown_here_is_refused():
    register_encoder("own")(Own)
    config = encoder_config(create_encoder("own"))
    registry._registered.clear()
    with pytest.raises(DataError, match="stored encoder: unknown encoder 'own'"):
        build_encoder(config)
    with pytest.raises(DataError, match="stored encoder: expected a name, got None"):
        build_encoder({"kind": "se_resnext"})
    with pytest.raises(DataError, match="stored encoder: setting 'layers"):
        build_encoder({"name": "se_resnext", "kwargs": {"layers": [1, 2]}})
    assert build_encoder({"name": "sononet16"}).num_features == 128


def test_two_streams_take_an_own_encoder_and_draw_as_before_without():
    settings = ModelSettings(video=QUICK_ENCODER, speech=QUICK_ENCODER, shared_projection=False)
    torch.manual_seed(2)
    expected = TwoStream(settings).state_dict()
    torch.manual_seed(2)
    video = SEResNeXt(QUICK_ENCODER)
    found = TwoStream(settings, video).state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    own = TwoStream(settings, as_encoder(Own()))
    scripted = torch.jit.script(own)
    inputs = torch.randn(2, 1, 32, 32), torch.randn(1, 4, 1, 32, 32), torch.randn(3, 1, 32, 32)
    with torch.no_grad():
        for found_part, expected_part in zip(scripted.eval()(*inputs), own.eval()(*inputs), strict=True):
            torch.testing.assert_close(found_part, expected_part)


HEAVY = ("av", "cv2", "pyarrow", "sklearn", "matplotlib", "tensorboard", "pydicom", "soxr", "simplejpeg", "timm", "PIL")


@pytest.mark.slow
def test_the_core_imports_nothing_of_the_extras():
    program = (
        "import sys, usvs, usvs.ops, usvs.models, usvs.losses, usvs.audio.spectrogram\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"
