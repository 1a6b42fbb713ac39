"""Exports with timm's names, loaded by timm itself: skipped where it is not installed (slow)."""

import numpy as np
import pytest
import torch

import usvs
from tests.support.exports import CLASSES, randomised, run_card, save_classifier
from tests.support.real_timm import import_real_timm
from usvs.inference.export.export import export_model
from usvs.models.registry import create_encoder
from usvs.models.se_resnext import SEResNeXt
from usvs.models.settings import EncoderSettings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def timm():
    return import_real_timm()


@pytest.mark.parametrize(
    "encoder",
    [
        create_encoder("se_resnext50_32x4d"),
        create_encoder("se_resnext50_32x4d", in_chans=3, output_stride=8),
        SEResNeXt(EncoderSettings(layers=(1, 2, 1, 1), cardinality=4, base_width=16, output_stride=32)),
    ],
    ids=["published", "rgb", "other depths"],
)
def test_timm_loads_the_encoder_with_difference_0(timm, encoder, tmp_path, monkeypatch):
    randomised(encoder)
    usvs.save_encoder(tmp_path / "saved", encoder)
    found = export_model(tmp_path / "saved", tmp_path / "out", "timm")
    assert found.difference == 0
    images = torch.randn(2, encoder.in_chans, 96, 96)
    network = run_card(tmp_path / "out", monkeypatch)["network"]
    from_folder = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    with torch.no_grad():
        for one in (network, from_folder):
            assert torch.equal(one(images), encoder(images))
            assert torch.equal(one.forward_features(images), encoder.forward_features(images))


def test_without_the_output_stride_the_features_differ_silently(timm):
    """Why the call is written: the same weights load into timm's default network without an error."""
    encoder = randomised(create_encoder("se_resnext50_32x4d"))
    network = timm.create_model("seresnext50_32x4d", in_chans=1, num_classes=0).eval()
    network.load_state_dict(encoder.state_dict())
    images = torch.randn(1, 1, 96, 96)
    with torch.no_grad():
        assert not torch.allclose(network(images), encoder(images), atol=1e-4)


def test_timm_loads_a_classifier_with_its_class_names(timm, tmp_path, monkeypatch):
    encoder = randomised(SEResNeXt(EncoderSettings(layers=(1, 1, 1, 1))))
    save_classifier(tmp_path / "model", encoder)
    found = export_model(tmp_path / "model", tmp_path / "out", "timm")
    assert found.difference <= 1e-6
    network = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    assert list(network.pretrained_cfg["label_names"]) == list(CLASSES)
    pictures = np.random.default_rng(0).integers(0, 256, (4, 50, 50), np.uint8)
    images = usvs.models.preprocessing.preprocess_images(pictures, 32, 0.9)
    expected = usvs.FrameClassifier.from_pretrained(tmp_path / "model").predict_proba(pictures)
    with torch.no_grad():
        np.testing.assert_allclose(network(images).softmax(1).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_a_network_of_timm_goes_back(timm, name, tmp_path):
    encoder = create_encoder(f"timm:{name}").eval()
    encoder.set_normalisation([0.4], [0.2])
    usvs.save_encoder(tmp_path / "saved", encoder)
    found = export_model(tmp_path / "saved", tmp_path / "out", "timm")
    assert found.difference <= 1e-5 * max(1, found.largest)
    network = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    assert network.pretrained_cfg["mean"] == [0.4] or tuple(network.pretrained_cfg["mean"]) == (0.4,)
