"""Pretraining with an own encoder, loss, callbacks and loggers, and with initial weights, all defined here."""

import json
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import usvs
from usvs.errors import ConfigError, DataError
from usvs.losses.joint import JointObjective
from usvs.models.sononet import SonoNet
from usvs.tasks.pretraining.task import PretrainingTask
from usvs.training.compilation import ScriptedModule
from usvs.training.metrics_log import read_metrics
from usvs.training.trainer import Trainer

OWN_WIDTH = {"model": {"shared_projection": False}}


class TinyEncoder(nn.Module):
    """The least that an own encoder needs."""

    num_features = 12

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.num_features = width
        self.stem = nn.Conv2d(1, width, 5, stride=4, padding=2)
        self.norm = nn.BatchNorm2d(width)

    def forward_features(self, images: Tensor) -> Tensor:
        return F.relu(self.norm(self.stem(images)))


class InfoNCE(nn.Module):
    """An own loss, with an own name for what it logs."""

    uses_order = False

    class Values(NamedTuple):
        total: Tensor
        nearest_is_own: Tensor

    def forward(
        self,
        positive_logits,
        negative_logits,
        video,
        positive,
        negative,
        pair_valid,
        order_logits,
        order_class,
        global_batch=None,
    ):
        valid = pair_valid.to(video.device)
        similarity = F.normalize(video[valid], dim=1) @ F.normalize(positive[valid], dim=1).T / 0.1
        own = torch.arange(len(similarity), device=video.device)
        return self.Values(F.cross_entropy(similarity, own), (similarity.argmax(dim=1) == own).float().mean())


class Recorder:
    """A callback with some of the methods, without inheriting."""

    def __init__(self) -> None:
        self.events: list = []

    def on_start(self, trainer, total_steps):
        assert isinstance(trainer, Trainer)
        self.events.append(("start", trainer.step_number, total_steps))

    def on_step(self, step, values):
        assert values["total"] > 0 and "learning_rate" in values
        self.events.append(("step", step))

    def on_validation(self, step, values):
        assert "total" in values
        self.events.append(("validation", step))

    def on_checkpoint(self, step, folder):
        self.events.append(("checkpoint", step, folder.name))

    def on_end(self, step):
        self.events.append(("end", step))


class ListLogger:
    def __init__(self) -> None:
        self.records: list = []
        self.closed = False

    def log(self, step, values, split):
        self.records.append({"step": step, "split": split, **values})

    def close(self):
        self.closed = True


def test_an_own_encoder_is_trained_recorded_and_loaded_again(tmp_path, noise_store, tiny):
    torch.manual_seed(0)
    encoder = TinyEncoder()
    before = encoder.stem.weight.detach().clone()
    run = usvs.pretrain(str(noise_store), str(tmp_path / "run"), tiny(), **OWN_WIDTH, encoder=encoder).run
    assert not torch.equal(encoder.stem.weight, before)
    card = json.loads((run / "model.json").read_text())
    assert card["encoder"]["class"].endswith("TinyEncoder") and card["init"] is None
    with pytest.raises(ConfigError, match=r"own encoder, .*TinyEncoder: expected encoder=MODULE"):
        usvs.load_encoder(run)
    loaded = usvs.load_encoder(run, encoder=TinyEncoder())
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(loaded.forward_features(images), encoder.eval().forward_features(images))
    with pytest.raises(DataError, match="does not fit"):
        usvs.load_encoder(run, encoder=TinyEncoder(width=16))
    again = usvs.pretrain(noise_store, run, tiny(), **OWN_WIDTH, encoder=TinyEncoder(), resume=True)
    assert again.steps == 6
    with pytest.raises(DataError, match="another encoder"):
        usvs.pretrain(noise_store, run, tiny(), **OWN_WIDTH, encoder=TinyEncoder(width=16), resume=True)


@pytest.mark.slow
def test_a_registered_encoder_is_named_and_rebuilt_by_name(tmp_path, noise_store, tiny):
    usvs.register_encoder("tiny_for_tests")(TinyEncoder)
    run = usvs.pretrain(noise_store, tmp_path / "run", tiny(), **OWN_WIDTH, encoder="tiny_for_tests").run
    encoder = usvs.load_encoder(run)
    assert encoder(torch.rand(2, 1, 32, 32)).shape == (2, 12)
    same = usvs.pretrain(noise_store, tmp_path / "same", tiny(), **OWN_WIDTH, encoder="tiny_for_tests").run
    for name, value in usvs.load_encoder(same).state_dict().items():  # its untrained weights depend on the seed only
        assert torch.equal(value, encoder.state_dict()[name])


def test_what_cannot_be_an_encoder_is_named_and_leaves_no_folder(tmp_path, noise_store, tiny):
    with pytest.raises(ConfigError, match="forward_features"):
        usvs.pretrain(noise_store, tmp_path / "run", tiny(), encoder=nn.Linear(2, 2))
    assert not (tmp_path / "run").exists()


def test_an_own_loss_is_minimised_logged_and_validated(tmp_path, noise_store, tiny):
    result = usvs.pretrain(noise_store, tmp_path / "run", tiny(), loss=InfoNCE())
    records = read_metrics(result.run)
    assert all({"total", "nearest_is_own"} <= record.keys() for record in records)
    assert {record["split"] for record in records} == {"train", "validation"}
    assert "nearest_is_own" in result.metrics and "order" not in result.metrics
    assert json.loads((result.run / "model.json").read_text())["loss"]["class"].endswith("InfoNCE")
    assert usvs.load_encoder(result.run).num_features > 0
    with pytest.raises(DataError, match="another encoder, loss"):
        usvs.pretrain(noise_store, result.run, tiny(), resume=True)


@pytest.mark.slow
def test_an_own_loss_with_the_terms_of_the_default_gives_the_same_weights(tmp_path, noise_store, tiny):
    class Own(JointObjective):
        pass

    own = usvs.pretrain(noise_store, tmp_path / "own", tiny(), loss=Own(tiny().objective))
    default = usvs.pretrain(noise_store, tmp_path / "default", tiny())
    weights = usvs.load_encoder(default.run).state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in usvs.load_encoder(own.run).state_dict().items())
    assert own.metrics == default.metrics


@pytest.mark.slow
def test_what_torchscript_cannot_compile_runs_eagerly_and_the_rest_is_compiled(tiny, caplog):
    settings = tiny(run={"compile": "torchscript"})

    def compiled(task):
        return Trainer(task.module(), settings.optimiser, settings.run, 10, 5).compute.compiled

    assert isinstance(compiled(PretrainingTask(settings)), ScriptedModule)
    assert "eagerly" not in caplog.text
    assert not isinstance(compiled(PretrainingTask(settings, InfoNCE())), ScriptedModule)
    assert "it runs eagerly" in caplog.text


def test_callbacks_are_called_in_order_and_loggers_get_what_the_file_gets(tmp_path, noise_store, tiny):
    recorder, log = Recorder(), ListLogger()
    run = usvs.pretrain(noise_store, tmp_path / "run", tiny(), callbacks=[recorder, object()], loggers=[log]).run
    steps = [event[1] for event in recorder.events if event[0] == "step"]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert recorder.events[0] == ("start", 0, 6) and recorder.events[-1] == ("end", 6)
    assert [event[1] for event in recorder.events if event[0] == "validation"] == [3, 6]
    assert ("checkpoint", 2, "step_00000002") in recorder.events
    assert log.records == read_metrics(run) and log.closed
    assert not list(run.glob("events.out.tfevents*"))  # only where no loggers are given


@pytest.mark.slow
def test_an_error_in_a_callback_ends_the_run_and_keeps_its_checkpoints(tmp_path, noise_store, tiny):
    class Stop(Exception):
        pass

    class Stopper:
        def on_step(self, step, values):
            if step == 3:
                raise Stop

    log = ListLogger()
    with pytest.raises(Stop):
        usvs.pretrain(noise_store, tmp_path / "run", tiny(), callbacks=[Stopper()], loggers=[log])
    assert log.closed
    assert usvs.pretrain(noise_store, tmp_path / "run", tiny(), resume=True).steps == 6


def test_settings_are_given_by_name(tmp_path, noise_store, tiny):
    result = usvs.pretrain(noise_store, tmp_path / "run", tiny(), optimiser={"epochs": 1}, **{"run.seed": 4})
    config = json.loads((result.run / "config.json").read_text())
    assert result.steps == 3 and config["optimiser"]["epochs"] == 1 and config["run"]["seed"] == 4
    assert config["optimiser"]["kind"] == tiny().optimiser.kind
    with pytest.raises(ConfigError, match=r"did you mean 'optimiser.learning_rate'"):
        usvs.pretrain(noise_store, tmp_path / "other", tiny(), learning_rate=1e-3)
    with pytest.raises(ConfigError, match=r"did you mean 'optimiser.learning_rate'"):
        usvs.pretrain(noise_store, tmp_path / "other", tiny(), optimiser={"learning_rat": 1e-3})
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_run_can_start_from_another_and_remembers_its_patients(tmp_path, noise_store, tiny, caplog):
    asked = [f"{number + 100:012x}" for number in range(4)]
    first = usvs.pretrain(noise_store, tmp_path / "first", tiny(), patients=asked[:2])
    before = usvs.load_encoder(first.run).state_dict()
    start: dict = {}

    class Weights:
        def on_start(self, trainer, total_steps):
            start.update({n: v.clone() for n, v in trainer.module.streams.video.state_dict().items()})

    caplog.clear()
    second = usvs.pretrain(
        noise_store, tmp_path / "second", tiny(), init=first.run, patients=asked[2:], callbacks=[Weights()]
    )
    assert all(torch.equal(start[name].contiguous(), value) for name, value in before.items())
    known = [json.loads((result.run / "patients.json").read_text()) for result in (first, second)]
    assert set(known[0]["trained"]) < set(known[1]["trained"])
    assert "validation metrics are too good" not in caplog.text
    card = json.loads((second.run / "model.json").read_text())
    assert card["init"]["kind"] == "run" and card["init"]["name"] == "first" and len(card["init"]["sha256"]) == 64
    assert str(tmp_path) not in (second.run / "model.json").read_text()
    usvs.load_encoder(second.run)
    with pytest.raises(DataError, match="or init"):  # resumed without it
        usvs.pretrain(noise_store, second.run, tiny(), patients=asked[2:], resume=True)
    again = usvs.pretrain(noise_store, second.run, tiny(), init=str(first.run), patients=asked[2:], resume=True)
    assert again.metrics == second.metrics


@pytest.mark.slow
def test_validation_on_patients_that_the_init_was_trained_on_is_reported(tmp_path, noise_store, tiny, caplog):
    asked = [f"{number + 100:012x}" for number in range(4)]
    everybody = usvs.pretrain(noise_store, tmp_path / "first", tiny(), patients=asked, validation_fraction=0.0)
    usvs.pretrain(noise_store, tmp_path / "second", tiny(), init=everybody.run, patients=asked)
    assert "trained on 1 of 1 validation patients: validation metrics are too good" in caplog.text


@pytest.mark.slow
def test_an_init_of_another_architecture_is_named(tmp_path, noise_store, tiny):
    first = usvs.pretrain(noise_store, tmp_path / "first", tiny())
    with pytest.raises(DataError, match=r"not the one that setting 'model\.video' describes"):
        usvs.pretrain(noise_store, tmp_path / "second", tiny(), init=first.run, model={"video": {"stem_width": 16}})
    with pytest.raises(DataError, match="expected a run folder with a checkpoint"):
        usvs.pretrain(noise_store, tmp_path / "second", tiny(), init=tmp_path / "nothing")
    assert not (tmp_path / "second").exists()


def test_the_loaded_encoder_says_how_its_input_is_made(tmp_path, noise_store, tiny):
    settings = tiny()
    encoder = usvs.load_encoder(usvs.pretrain(noise_store, tmp_path / "run", settings).run)
    pixels = settings.model.frame_pixels
    assert encoder.pretrained_cfg["input_size"] == (1, pixels, pixels)
    assert encoder.pretrained_cfg["crop_fraction"] == settings.augment.crop_fraction
    images = torch.randint(0, 256, (3, 50, 50), dtype=torch.uint8)
    assert encoder(encoder.preprocess(images)).shape == (3, encoder.num_features)


@pytest.mark.slow
def test_published_weights_bring_their_own_encoder(tmp_path, noise_store, tiny):
    torch.save(SonoNet(16).state_dict(), tmp_path / "weights.pth")
    settings = tiny(objective={"order_weight": 0})
    init = f"sononet:{tmp_path / 'weights.pth'}"
    short = {**OWN_WIDTH, "optimiser": {"epochs": 1}, "patients": [f"{100:012x}"], "validation_fraction": 0}
    run = usvs.pretrain(noise_store, tmp_path / "run", settings, **short, init=init).run
    card = json.loads((run / "model.json").read_text())
    assert card["init"]["kind"] == "sononet" and card["init"]["name"] == "weights.pth"
    assert type(usvs.load_encoder(run)).__name__ == "SonoNetEncoder"
    with pytest.raises(ConfigError, match="has an encoder of its own"):
        usvs.pretrain(noise_store, tmp_path / "other", tiny(), encoder=TinyEncoder(), init="sononet:weights.pth")
