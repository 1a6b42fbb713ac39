"""Every format is read again by what its users read it with, and computes what the original does."""

import json
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

import usvs
from tests.support.exports import CLASSES, randomised, run_card, save_classifier, small_encoder
from tests.support.own_encoder import Own
from tests.support.processes import run_python
from usvs.config import override_settings
from usvs.errors import ConfigError, DataError
from usvs.inference.export.export import export_model
from usvs.models.registry import create_encoder
from usvs.tasks.model_files import TrainedModel, save_model
from usvs.tasks.saliency.settings import saliency_profile
from usvs.tasks.saliency.task import SaliencyTask

TOLERANCE = 1e-5
PROGRAMS = [pytest.param(name, marks=pytest.mark.slow) for name in ("torchscript", "torch-export", "onnx")]
FORMATS = ["folder", *PROGRAMS]


def output_of(folder: Path, format: str, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    network = run_card(folder, monkeypatch)["network"]
    with torch.no_grad():
        found = network(images)
    return torch.as_tensor(found)


def skip_without_onnx(format: str) -> None:
    if format == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxscript")


@pytest.mark.parametrize("format", FORMATS)
def test_an_encoder_comes_back(format, tmp_path, monkeypatch):
    skip_without_onnx(format)
    encoder = small_encoder()
    usvs.save_encoder(tmp_path / "saved", encoder)
    found = export_model(tmp_path / "saved", tmp_path / "out", format)
    assert found.kind == "encoder" and found.output_shape == ("n", encoder.num_features)
    assert found.difference is None or found.difference <= TOLERANCE * max(1, found.largest)
    for count in (1, 5):
        images = torch.randn(count, 1, 32, 32)
        with torch.no_grad():
            expected = encoder(images)
        again = output_of(tmp_path / "out", format, images, monkeypatch)
        torch.testing.assert_close(again, expected, rtol=TOLERANCE, atol=TOLERANCE)
    for path in (tmp_path / "out", *(tmp_path / "out").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


@pytest.mark.slow
@pytest.mark.parametrize("format", [FORMATS[0], *PROGRAMS[:2]])
def test_a_full_disk_is_one_error(format, tmp_path):
    """Torch, given the path of a file, ends the process where it cannot be written completely."""
    usvs.save_encoder(tmp_path / "saved", small_encoder())
    script = (
        "import resource, sys; from usvs.errors import ResourceError\n"
        "from usvs.inference.export.export import export_model\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: export_model(*sys.argv[1:])\n"
        "except ResourceError as error: print(error)"
    )
    printed = run_python("-c", script, tmp_path / "saved", tmp_path / "out", format)
    assert "could not be written: " in printed and "File too large" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("format", PROGRAMS)
def test_the_folds_of_a_classifier_are_averaged(format, tmp_path, monkeypatch):
    skip_without_onnx(format)
    save_classifier(tmp_path / "model", small_encoder(), folds=2)
    found = export_model(tmp_path / "model", tmp_path / "out", format)
    assert found.classes == CLASSES
    assert json.loads((tmp_path / "out" / "model.json").read_text())["classes"] == list(CLASSES)
    pictures = np.random.default_rng(0).integers(0, 256, (4, 50, 50), np.uint8)
    expected = usvs.FrameClassifier.from_pretrained(tmp_path / "model").predict_proba(pictures)
    images = usvs.models.preprocessing.preprocess_images(pictures, 32, 0.9)
    again = output_of(tmp_path / "out", format, images, monkeypatch)
    np.testing.assert_allclose(again.numpy(), expected, atol=TOLERANCE)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| 1 | four \\| chamber |" in card and "no medical device" in card


def test_a_classifier_as_a_folder(tmp_path, monkeypatch):
    save_classifier(tmp_path / "model", small_encoder(), folds=2)
    export_model(tmp_path / "model", tmp_path / "out")
    pictures = np.random.default_rng(0).integers(0, 256, (4, 50, 50), np.uint8)
    expected = usvs.FrameClassifier.from_pretrained(tmp_path / "model").predict_proba(pictures)
    network = run_card(tmp_path / "out", monkeypatch)["network"]
    assert np.array_equal(network.predict_proba(pictures), expected)
    assert network.classes_.tolist() == list(CLASSES)


@pytest.mark.parametrize("format", FORMATS)
def test_a_density_of_gaze(format, tmp_path, monkeypatch):
    skip_without_onnx(format)
    settings = override_settings(saliency_profile("quick"), model={"frame_pixels": 32})
    module = SaliencyTask().module(small_encoder(), None, settings).eval()
    save_model(tmp_path / "model", TrainedModel(SaliencyTask(), module, settings, 40))
    found = export_model(tmp_path / "model", tmp_path / "out", format)
    assert found.output_shape == ("n", 32, 32) and found.difference in (None, pytest.approx(0, abs=TOLERANCE))
    network = run_card(tmp_path / "out", monkeypatch)["network"] if format != "onnx" else None
    pictures = np.random.default_rng(0).integers(0, 256, (2, 50, 50), np.uint8)
    images = usvs.models.preprocessing.preprocess_images(pictures, 32, settings.augment.crop_fraction)
    expected = usvs.SaliencyModel.from_pretrained(tmp_path / "model").predict(pictures)
    if format == "folder":
        assert np.array_equal(network.predict(pictures), expected)
    else:
        again = output_of(tmp_path / "out", format, images, monkeypatch)
        np.testing.assert_allclose(again.numpy(), expected, atol=TOLERANCE)


def test_a_saved_encoder_is_an_init(tmp_path):
    encoder = small_encoder()
    usvs.save_encoder(tmp_path / "saved", encoder)
    labels = np.array([0, 1] * 4)
    frames = np.random.default_rng(0).integers(0, 256, (8, 40, 40), np.uint8)
    classifier = usvs.FrameClassifier(encoder=tmp_path / "saved", optimiser={"epochs": 1, "learning_rate": 1e-9})
    classifier.fit(frames, labels)
    trained = classifier.models_[0].module.encoder
    assert trained.settings == encoder.settings and trained.pretrained_cfg["input_size"] == (1, 32, 32)
    torch.testing.assert_close(trained.conv1.weight, encoder.conv1.weight, rtol=0, atol=1e-6)


def test_an_own_encoder_needs_its_class(tmp_path):
    own = usvs.models.as_encoder(Own())
    usvs.save_encoder(tmp_path / "saved", own)
    with pytest.raises(ConfigError, match=r"own_encoder\.Own: expected encoder=MODULE"):
        export_model(tmp_path / "saved", tmp_path / "out")
    export_model(tmp_path / "saved", tmp_path / "out", encoder=Own())
    again = usvs.load_encoder(tmp_path / "out", Own())
    assert torch.equal(again.module.conv.weight, own.module.conv.weight)
    with pytest.raises(ConfigError, match="format timm: expected a network of timm, got EncoderAdapter"):
        export_model(tmp_path / "saved", tmp_path / "timm", "timm", encoder=Own())
    assert not (tmp_path / "timm").exists() and not list(tmp_path.glob(".*"))


class Untraceable(Own):
    def forward_features(self, images):
        return self.conv(images * float(np.asarray(images.detach()).mean() > -9)).relu()


def test_what_a_format_cannot_express_is_one_line_and_leaves_nothing(tmp_path):
    usvs.save_encoder(tmp_path / "saved", usvs.models.as_encoder(Untraceable()))
    with pytest.raises(ConfigError, match=r"export: format torchscript cannot express this network \(.+\): choose"):
        export_model(tmp_path / "saved", tmp_path / "out", "torchscript", encoder=Untraceable())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved"]


def test_refusals(tmp_path):
    usvs.save_encoder(tmp_path / "saved", small_encoder())
    with pytest.raises(ConfigError, match=r"expected format folder or timm .* got 'pickle'"):
        export_model(tmp_path / "saved", tmp_path / "out", "pickle")
    with pytest.raises(DataError, match="there is no such run or model"):
        export_model(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(DataError, match="expected a run folder with a checkpoint"):
        export_model(tmp_path, tmp_path / "out")
    with pytest.raises(ConfigError, match="expected a new folder, got one with content"):
        export_model(tmp_path / "saved", tmp_path)
    with pytest.raises(ConfigError, match="SE-ResNeXt with stem_width 64, the only one that timm builds, got 8"):
        export_model(tmp_path / "saved", tmp_path / "out", "timm")
    save_classifier(tmp_path / "folds", small_encoder(), folds=2)
    with pytest.raises(
        ConfigError, match=r"expected one model, got 2 folds: name one of them, such as '.*folds/fold_0'"
    ):
        export_model(tmp_path / "folds", tmp_path / "out", "timm")
    weights = tmp_path / "saved" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"model.safetensors' is damaged: expected SHA-256"):
        export_model(tmp_path / "saved", tmp_path / "out")
    description = tmp_path / "saved" / "model.json"
    description.write_text(description.read_text().replace('"crop_fraction": 0.9', '"crop_fraction": 7'))
    with pytest.raises(DataError, match=r"saved', stored encoder: .*crop_fraction above 0 and at most 1, got 7"):
        usvs.load_encoder(tmp_path / "saved")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folds", "saved"]


def test_an_empty_folder_is_used_and_a_symlink_is_followed_to_it(tmp_path):
    usvs.save_encoder(tmp_path / "saved", small_encoder())
    (tmp_path / "out").mkdir()
    export_model(tmp_path / "saved", tmp_path / "out")
    assert (tmp_path / "out" / "README.md").is_file()


@pytest.mark.slow
def test_names_of_timm_without_timm(tmp_path):
    """The published network: names, call and configuration are written whether timm is installed or not."""
    encoder = randomised(create_encoder("se_resnext50_32x4d"))
    usvs.save_encoder(tmp_path / "saved", encoder)
    found = export_model(tmp_path / "saved", tmp_path / "out", "timm")
    call = 'timm.create_model("seresnext50_32x4d", in_chans=1, num_classes=0, output_stride=16)'
    assert found.call == call and call in (tmp_path / "out" / "README.md").read_text()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architecture"] == "seresnext50_32x4d" and config["num_classes"] == 0
    assert config["model_args"] == {"in_chans": 1, "output_stride": 16}
    assert config["pretrained_cfg"]["mean"] == [0.25] and config["pretrained_cfg"]["crop_pct"] == 0.9
