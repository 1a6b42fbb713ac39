"""Saved models: what is written, what is loaded, and what is refused with which words."""

import json

import pytest
import torch

from usvs.errors import DataError
from usvs.tasks.classification.task import ClassificationTask
from usvs.tasks.initial_encoder import initial_encoder
from usvs.tasks.model_files import TrainedModel, load_model, save_model
from usvs.tasks.saliency.settings import SaliencySettings
from usvs.tasks.saliency.task import SaliencyTask


@pytest.fixture
def models(tiny_planes):
    gaze = SaliencySettings(model=tiny_planes.model, run=tiny_planes.run, head_width=8)
    pairs = {"classification": (ClassificationTask(["a", "b", "c"]), tiny_planes), "saliency": (SaliencyTask(), gaze)}
    made = {}
    for kind, (task, settings) in pairs.items():
        module = task.module(initial_encoder("random", settings), None, settings).eval()
        module.to(memory_format=torch.channels_last)
        made[kind] = TrainedModel(task, module, settings, 36)
    return made


@pytest.mark.parametrize("kind", ["classification", "saliency"])
def test_a_loaded_model_predicts_the_same(models, tmp_path, kind):
    model = models[kind]
    save_model(tmp_path / "model", model)
    state = torch.random.get_rng_state()
    loaded = load_model(str(tmp_path / "model"))
    assert torch.equal(torch.random.get_rng_state(), state)
    images = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.task.predict(model.module, images), loaded.task.predict(loaded.module, images))
    assert loaded.settings == model.settings and loaded.prepared_pixels == 36 and not loaded.module.training
    assert loaded.task.description() == model.task.description()
    described = json.loads((tmp_path / "model" / "model.json").read_text())
    assert described["encoder"]["output_stride"] == loaded.module.encoder.stride == (8 if kind == "saliency" else 16)
    assert described["input"] == {"prepared_pixels": 36, "crop_fraction": 0.9, "frame_pixels": 32}


def change(folder, **values):
    file = folder / "model.json"
    described = json.loads(file.read_text())
    for name, value in values.items():
        if value is None:
            del described[name]
        else:
            described[name] = value
    file.write_text(json.dumps(described))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": 7}, "model.json', format: expected 1, got 7"),
        ({"kind": "other"}, "model.json', kind: expected classification or saliency, got 'other'"),
        ({"task": None}, "model.json': expected an entry 'task', got none"),
        ({"task": {"name": "x", "title": "x", "classes": ["a"]}}, "classes: expected at least two different names"),
        ({"settings": {"folds": 0}}, "model.json': setting 'folds'"),
        ({"encoder": {"name": "nothing"}}, "stored encoder"),
        ({"weights_sha256": "0" * 64}, "model.safetensors' is damaged: expected SHA-256 000000000000"),
    ],
)
def test_a_wrong_description_is_named(models, tmp_path, values, message):
    save_model(tmp_path, models["classification"])
    change(tmp_path, **values)
    with pytest.raises(DataError, match=message):
        load_model(tmp_path)


def test_damaged_and_missing_files_are_named(models, tmp_path):
    with pytest.raises(DataError, match=r"expected a file model\.json, got none"):
        load_model(tmp_path)
    save_model(tmp_path, models["classification"])
    weights = tmp_path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DataError, match=r"model\.safetensors' is damaged"):
        load_model(tmp_path)
    weights.unlink()
    with pytest.raises(DataError, match=r"model\.safetensors': expected the weights of the model"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(DataError, match=r"model\.json': expected JSON"):
        load_model(tmp_path)


def test_weights_of_another_model_are_refused(models, tmp_path):
    save_model(tmp_path, models["classification"])
    change(tmp_path, task={"name": "x", "title": "x", "classes": ["a", "b", "c", "d"]})
    with pytest.raises(DataError, match=r"model\.safetensors' does not fit model\.json: size mismatch for head"):
        load_model(tmp_path)


def test_a_model_can_be_saved_over_an_interrupted_one(models, tmp_path):
    (tmp_path / "model.safetensors").write_text("half")
    save_model(tmp_path, models["classification"])
    assert load_model(tmp_path).task.classes == ("a", "b", "c")
