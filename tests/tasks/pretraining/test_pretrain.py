"""Pretraining: what a run leaves, the same seed, every objective, and what it refuses."""

import json
import math
import signal

import pytest
import torch

from tests.support.pretraining_runs import STEPS, equal, records, weights
from usvs.errors import ConfigError, DataError, ResourceError
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining import task as module
from usvs.tasks.pretraining.pretrain import pretrain
from usvs.tasks.pretraining.validation import Validation
from usvs.training.checkpoint import load_checkpoint, step_folders
from usvs.training.metrics_log import read_metrics
from usvs.training.trainer import NonFiniteError, Trainer


def test_a_run_leaves_what_it_says(undisturbed, noise_store, tiny):
    run = undisturbed.run
    assert undisturbed.steps == STEPS
    assert undisturbed.checkpoint == run / "checkpoints" / "step_00000006"
    names = {path.name for path in run.iterdir() if not path.name.startswith("events.out.tfevents")}
    assert names == {
        "config.json",
        "environment.json",
        "patients.json",
        "model.json",
        "metrics.jsonl",
        "checkpoints",
        ".lock",
    }
    assert json.loads((run / "config.json").read_text()) == tiny().model_dump(mode="json")
    patients = json.loads((run / "patients.json").read_text())
    assert len(patients["trained"]) == 3 and len(patients["validation"]) == 1
    assert "L_cls" in str(undisturbed) and "(chance 0.693)" in str(undisturbed)
    assert json.loads((run / "model.json").read_text()) == {"encoder": {"kind": "settings"}, "loss": None, "init": None}
    state = json.loads((undisturbed.checkpoint / "state.json").read_text())
    assert state["step"] == state["total_steps"] == STEPS
    for path in run.rglob("*"):
        if path.is_file():
            assert str(noise_store).encode() not in path.read_bytes()


def test_every_loss_is_recorded_beside_its_chance(undisturbed):
    train = [record for record in read_metrics(undisturbed.run) if record["split"] == "train"]
    validation = [record for record in read_metrics(undisturbed.run) if record["split"] == "validation"]
    assert [record["step"] for record in train] == list(range(1, STEPS + 1))
    assert [record["step"] for record in validation] == [3, 6]
    for record in [*train, *validation]:
        assert record["correspondence_chance"] == pytest.approx(math.log(2))
        assert record["order_chance"] == pytest.approx(math.log(12))
        assert all(math.isfinite(value) for value in record.values() if not isinstance(value, str))
    for record in train:
        assert record["contrastive_chance"] == pytest.approx(math.log(3 * record["valid_pairs"] - 1), rel=1e-5)
        assert record["retrieval_top1_chance"] == pytest.approx(1 / record["valid_pairs"])
        assert record["step_seconds"] > 0 and record["wait_seconds"] >= 0
    assert validation[-1]["pool_top1_speech_to_video_chance"] == 1 / 4  # two of the six clips have hardly any speech
    assert undisturbed.metrics == {k: v for k, v in validation[-1].items() if k not in ("step", "split")}


def test_validation_patients_are_never_trained_on(tmp_path, monkeypatch, noise_store, tiny):
    seen = []
    plans = module.RankPlan

    def watched(clips, *arguments, **ranks):
        seen.append(set(clips.scan.tolist()))
        return plans(clips, *arguments, **ranks)

    monkeypatch.setattr(module, "RankPlan", watched)
    result = pretrain(noise_store, tmp_path / "run", tiny())
    validation = json.loads((result.run / "patients.json").read_text())["validation"]
    assert seen and all(f"{scan + 100:012x}" not in validation for scans in seen for scan in scans)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_one_others(tmp_path, noise_store, tiny, undisturbed):
    same = pretrain(noise_store, tmp_path / "same", tiny())
    other = pretrain(noise_store, tmp_path / "other", tiny(run={"seed": 1}))
    assert equal(weights(same.run), weights(undisturbed.run))
    assert records(same.run) == records(undisturbed.run)
    assert not equal(weights(other.run), weights(undisturbed.run))


def test_other_settings_another_store_or_a_taken_folder_are_refused(
    tmp_path, noise_store, store_writer, tiny, undisturbed
):
    run, before = undisturbed.run, records(undisturbed.run)
    with pytest.raises(ConfigError, match="is not empty"):
        pretrain(noise_store, run, tiny())
    with pytest.raises(ConfigError, match=r"objective\.temperature: 0\.1, now 0\.2"):
        pretrain(noise_store, run, tiny(objective={"temperature": 0.2}), resume=True)
    with pytest.raises(ConfigError, match=r"run\.seed: 0, now 4"):
        pretrain(noise_store, run, tiny(run={"seed": 4}), resume=True)
    with pytest.raises(DataError, match="other patients"):
        pretrain(store_writer(tmp_path / "more", scans=6), run, tiny(), resume=True)
    with pytest.raises(DataError, match="clips are not those"):
        pretrain(store_writer(tmp_path / "other", speech=0.8), run, tiny(), resume=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not a run folder"):
        pretrain(noise_store, tmp_path / "notes", tiny(), resume=True)
    assert records(run) == before


def test_video_alone_needs_no_sound_and_the_rest_says_so(tmp_path, silent_store, tiny):
    with pytest.raises(DataError, match="--objective video"):
        pretrain(silent_store, tmp_path / "joint", tiny())
    assert not (tmp_path / "joint").exists()
    video = {"correspondence_weight": 0, "contrastive_weight": 0}
    result = pretrain(silent_store, tmp_path / "video", tiny(objective=video))
    names = set(result.metrics)
    assert {"order", "order_chance", "order_accuracy"} <= names
    assert not any(name.startswith(("correspondence", "contrastive", "pool", "margin")) for name in names)


@pytest.mark.slow
def test_sound_without_speech_is_refused(tmp_path, store_writer, tiny):
    store = store_writer(tmp_path / "store", speech=0.2)
    with pytest.raises(DataError, match="no training clip has speech in 50%"):
        pretrain(store, tmp_path / "run", tiny())
    assert pretrain(store, tmp_path / "run", tiny(objective={"affinity": False})).steps == STEPS


@pytest.mark.parametrize(
    "objective",
    [
        {"speech": "shuffled"},
        {"contrastive_weight": 0, "affinity": False},
        {"order_weight": 0},
        {"form": "eq2", "normalise": False, "temperature": 1.0},
    ],
)
def test_every_objective_trains(tmp_path, noise_store, tiny, objective):
    result = pretrain(noise_store, tmp_path / "run", tiny(objective=objective))
    assert result.steps == STEPS
    assert ("order" in result.metrics) == (objective.get("order_weight", 1) > 0)
    assert ("contrastive" in result.metrics) == (objective.get("contrastive_weight", 1) > 0)


def test_only_some_patients(tmp_path, noise_store, tiny):
    asked = [f"{n + 100:012x}" for n in (0, 2)]
    result = pretrain(noise_store, tmp_path / "run", tiny(), patients=asked)
    patients = json.loads((result.run / "patients.json").read_text())
    assert sorted(patients["trained"] + patients["validation"]) == asked


def test_a_non_finite_loss_names_step_and_clips_and_overwrites_nothing(tmp_path, monkeypatch, noise_store, tiny):
    inputs = module.model_inputs

    def poisoned(batch):
        frames, order_frames, *rest = inputs(batch)
        return (frames, order_frames * float("nan"), *rest) if calls.append(1) or len(calls) == 4 else inputs(batch)

    calls: list[int] = []
    monkeypatch.setattr(module, "model_inputs", poisoned)
    with pytest.raises(NonFiniteError, match=r"step 3: the loss is nan.*clips of the batch: \[\d+") as stopped:
        pretrain(noise_store, tmp_path / "run", tiny())
    assert stopped.value.exit_code != 0
    saved = [path.name for path in step_folders(tmp_path / "run" / "checkpoints")]
    assert saved == ["step_00000002", "step_00000003"]  # the last is the best so far
    assert max(record["step"] for record in records(tmp_path / "run")) == 3
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "step_00000002").state["step"] == 2


def test_an_unwritable_place_is_named(tmp_path, noise_store, tiny):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="could not be written"):
        pretrain(noise_store, tmp_path / "file" / "run", tiny())
    with pytest.raises(ConfigError, match="expected a folder, got a file"):
        pretrain(noise_store, tmp_path / "file", tiny())


def test_validation_clips_all_show_the_order_task_whatever_share_training_shows(noise_store, tiny):
    settings = tiny()
    shared = settings.model_copy(update={"objective": settings.objective.model_copy(update={"order_fraction": 0.25})})
    store = PreparedStore(noise_store)
    assert Validation(store, store.clips, shared).loader.batch(0).order_valid.all()


def test_validation_is_not_augmented_however_strongly_training_is(noise_store, tiny):
    plain = tiny()
    strong = plain.augment.model_copy(update={"zoom": 2.0, "gain_db": 12.0, "flip": True, "speech_speed": 1.5})
    store = PreparedStore(noise_store)
    first, second = (
        Validation(store, store.clips, plain.model_copy(update={"augment": augment})).loader.batch(0)
        for augment in (plain.augment, strong)
    )
    for name in ("frames", "order_frames", "speech", "negative_speech"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"run": {"device": "xpu"}}, ResourceError),
        ({"model": {"frame_pixels": 64}}, ConfigError),  # the store's frames have 36
        ({"run": {"micro_batch_clips": -1}}, ConfigError),
    ],
)
def test_a_failed_start_leaves_no_folder_and_the_command_can_be_repeated(tmp_path, noise_store, tiny, settings, error):
    run = tmp_path / "run"
    for resume in (False, True):
        with pytest.raises(error):
            pretrain(noise_store, run, tiny(), resume=resume, **settings)
        assert not run.exists()
    assert pretrain(noise_store, run, tiny()).steps == STEPS


def test_a_failure_in_the_first_step_leaves_no_folder(tmp_path, monkeypatch, noise_store, tiny):
    def full(self, *batch, **shard):
        raise ResourceError("out of memory")

    with monkeypatch.context() as patch, pytest.raises(ResourceError):
        patch.setattr(Trainer, "step", full)
        pretrain(noise_store, tmp_path / "run", tiny())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_in_use_by_another_process_is_refused_and_left_alone(tmp_path, noise_store, tiny):
    refused = []

    class Second:
        def on_step(self, step, values):
            if step == 3:
                with pytest.raises(ConfigError, match="in use by another usvs process") as error:
                    pretrain(noise_store, tmp_path / "run", tiny(), resume=True)
                refused.append(error)

    result = pretrain(noise_store, tmp_path / "run", tiny(), callbacks=[Second()])
    assert len(refused) == 1 and result.steps == STEPS


@pytest.mark.slow
def test_pretraining_leaves_the_process_as_it_was(tmp_path, noise_store, tiny):
    def state():
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.get_rng_state().tolist(),
            signal.getsignal(signal.SIGTERM),
        )

    torch.manual_seed(11)
    before = state()
    pretrain(noise_store, tmp_path / "run", tiny())
    assert state() == before


def with_epochs(tiny, epochs, schedule="step"):
    settings = tiny()
    changed = {"epochs": epochs, "schedule": schedule, "step_epochs": 1}
    return settings.model_copy(update={"optimiser": settings.optimiser.model_copy(update=changed)})


@pytest.mark.slow
def test_a_lengthened_run_equals_a_long_one_and_says_what_it_does(tmp_path, noise_store, tiny, caplog):
    long = pretrain(noise_store, tmp_path / "long", with_epochs(tiny, 2))
    pretrain(noise_store, tmp_path / "run", with_epochs(tiny, 1))
    with caplog.at_level("INFO"):
        lengthened = pretrain(noise_store, tmp_path / "run", with_epochs(tiny, 2), resume=True)
    assert "lengthened from 3 to 6 steps, as 'config.json' records" in caplog.text
    assert "learning rate" not in caplog.text
    assert equal(weights(lengthened.run), weights(long.run))
    assert json.loads((lengthened.run / "config.json").read_text())["optimiser"]["epochs"] == 2
    with pytest.raises(ConfigError, match=r"'optimiser\.epochs': expected at least 2, .* not shortened\), got 1"):
        pretrain(noise_store, tmp_path / "run", with_epochs(tiny, 1), resume=True)


@pytest.mark.slow
def test_a_schedule_that_depends_on_the_length_warns_of_its_learning_rate(tmp_path, noise_store, tiny, caplog):
    pretrain(noise_store, tmp_path / "run", with_epochs(tiny, 1, "one_cycle"))
    lengthened = pretrain(noise_store, tmp_path / "run", with_epochs(tiny, 2, "one_cycle"), resume=True)
    assert lengthened.steps == 6
    assert "schedule 'one_cycle' depends on the number of steps: the learning rate was 4e-09 in the last" in caplog.text
