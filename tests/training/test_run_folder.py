"""Who may use a run folder, and what a failed start leaves."""

import json
import os

import pytest
import torch

from tests.support.interruptions import FileOperations, Interrupted, interruptions
from usvs.errors import ConfigError, DataError, ResourceError
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.training.checkpoint import Checkpoint, save_checkpoint
from usvs.training.loggers import TensorBoardLogger
from usvs.training.metrics_log import JsonlLogger
from usvs.training.run_folder import RunFolder, changed_setting
from usvs.training.settings import OptimiserSettings, RunSettings

SETTINGS = RunSettings(seed=3)


def claim(folder: RunFolder, **records) -> None:
    folder.check(SETTINGS)
    folder.claim(SETTINGS, {"patients.json": records}, {"device": "cpu"})


def test_a_claimed_folder_describes_the_run(tmp_path):
    with RunFolder(tmp_path / "deep" / "run", resume=False) as folder:
        claim(folder, trained=["a"])
        folder.started()
    run = tmp_path / "deep" / "run"
    assert json.loads((run / "config.json").read_text())["seed"] == 3
    assert json.loads((run / "patients.json").read_text()) == {"trained": ["a"]}
    assert json.loads((run / "environment.json").read_text()) == {"device": "cpu"}


def test_a_failure_before_the_first_step_leaves_no_folder(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), RunFolder(tmp_path / "run", resume=False) as folder:
            claim(folder)
            raise KeyError
        assert not (tmp_path / "run").exists()


def test_a_failure_after_it_and_a_failed_resumption_keep_the_folder(tmp_path):
    with pytest.raises(KeyError), RunFolder(tmp_path / "run", resume=False) as folder:
        claim(folder)
        folder.started()
        raise KeyError
    with pytest.raises(KeyError), RunFolder(tmp_path / "run", resume=True) as folder:
        claim(folder)
        raise KeyError
    assert (tmp_path / "run" / "config.json").exists()


def test_an_empty_folder_that_was_there_is_empty_again_after_a_failed_start(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".mine").touch()
    for resume in (False, False, True):
        with pytest.raises(KeyError), RunFolder(tmp_path / "run", resume) as folder:
            claim(folder)
            (tmp_path / "run" / "checkpoints").mkdir()
            raise KeyError
        assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock", ".mine"}


def test_a_kill_at_any_file_operation_of_a_start_can_be_resumed(tmp_path, monkeypatch):
    # a kill runs no clean-up
    monkeypatch.setattr(RunFolder, "_remove_claim", lambda self: None)
    with pytest.MonkeyPatch.context() as patch, RunFolder(tmp_path / "complete", resume=False) as folder:
        operations = FileOperations(patch, tmp_path)
        claim(folder, trained=["a"])
    assert operations.count > 15
    for number, after in interruptions(operations.count):
        run = tmp_path / f"killed_{number}_{after}"
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted), RunFolder(run, False) as folder:
            FileOperations(patch, tmp_path, number, after)
            claim(folder, trained=["a"])
        with RunFolder(run, resume=True) as folder:
            claim(folder, trained=["a"])
            folder.started()
        assert json.loads((run / "patients.json").read_text()) == {"trained": ["a"]}


def test_a_folder_that_cannot_be_written_to_is_a_resource_error(tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, RunFolder(tmp_path / "run", resume=False) as folder:
        patch.setattr("usvs.training.run_folder.write_text", full)
        with pytest.raises(ResourceError, match=r"run folder '.*run' could not be written: No space left on device"):
            claim(folder)


def test_a_second_process_is_refused_while_the_first_one_works(tmp_path):
    with RunFolder(tmp_path / "run", resume=False) as first:
        claim(first)
        first.started()
        with pytest.raises(ConfigError, match="in use by another usvs process"), RunFolder(first.path, True) as second:
            claim(second)
        assert (tmp_path / "run" / "config.json").exists()
    with RunFolder(tmp_path / "run", resume=True) as third:
        claim(third)


def test_a_run_to_resume_is_locked_before_its_checkpoint_is_read(tmp_path):
    with RunFolder(tmp_path / "run", resume=False) as first:
        claim(first)
        first.started()
    with RunFolder(tmp_path / "run", resume=True) as second:
        second.check(SETTINGS)
        with pytest.raises(ConfigError, match="in use by another usvs process"), RunFolder(second.path, True) as third:
            third.check(SETTINGS)
    with RunFolder(tmp_path / "run", resume=True) as fourth:
        fourth.check(SETTINGS)


@pytest.mark.parametrize("name", ["epochs", "log_every_steps", "keep_checkpoints", "loader_workers", "device"])
def test_a_resumed_run_may_be_longer_and_its_settings_are_recorded(tmp_path, name):
    values = {"epochs": 9, "device": "cpu"}
    changed = {name: values.get(name, 7)}
    before = PretrainSettings(optimiser=OptimiserSettings(epochs=4))
    group = "optimiser" if name == "epochs" else "run"
    after = before.model_copy(update={group: getattr(before, group).model_copy(update=changed)})
    for settings, resume in ((before, False), (after, True)):
        with RunFolder(tmp_path / "run", resume) as folder:
            folder.check(settings)
            folder.claim(settings, {}, {})
            folder.started()
        assert json.loads((tmp_path / "run" / "config.json").read_text()) == settings.model_dump(mode="json")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 3}, r"'optimiser\.epochs': expected at least 4, .* not shortened\), got 3"),
        ({"epochs": 9, "step_epochs": 7}, r"other settings: optimiser\.step_epochs: 20, now 7"),
        ({"epochs": 9, "schedule": "one_cycle"}, r"other settings: optimiser\.schedule: 'step', now 'one_cycle'"),
        ({"epochs": 9, "batch_clips": 8}, r"other settings: optimiser\.batch_clips: 32, now 8"),
    ],
)
def test_a_shorter_or_otherwise_different_run_is_refused(tmp_path, changed, message):
    before = PretrainSettings(optimiser=OptimiserSettings(epochs=4))
    with RunFolder(tmp_path / "run", False) as folder:
        folder.claim(before, {}, {})
        folder.started()
    after = before.model_copy(update={"optimiser": before.optimiser.model_copy(update=changed)})
    with pytest.raises(ConfigError, match=message), RunFolder(tmp_path / "run", True) as folder:
        folder.check(after)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["optimiser"]["epochs"] == 4


@pytest.mark.parametrize("content", ["[]", "{", '"text"'])
def test_a_damaged_record_of_the_settings_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(DataError, match=r"config\.json': expected (a )?JSON"), RunFolder(tmp_path, True) as folder:
        folder.check(SETTINGS)


def test_other_records_of_the_same_run_are_refused(tmp_path):
    with RunFolder(tmp_path / "run", resume=False) as folder:
        claim(folder, trained=["a"])
        folder.started()
    with pytest.raises(DataError, match=r"patients\.json' differs"), RunFolder(tmp_path / "run", resume=True) as folder:
        claim(folder, trained=["b"])
    assert json.loads((tmp_path / "run" / "patients.json").read_text()) == {"trained": ["a"]}


def test_the_first_difference_that_matters_is_named():
    before = {"run": {"seed": 0, "device": "cpu"}, "epochs": 3}
    assert changed_setting(before, before) is None
    assert changed_setting(before, {"run": {"seed": 0, "device": "cuda"}, "epochs": 3}) is None
    assert changed_setting(before, {"run": {"seed": 1, "device": "cpu"}, "epochs": 4}) == "run.seed: 0, now 1"
    assert changed_setting(before, {**before, "added": 2}) == "added: None, now 2"


def test_only_its_owner_may_read_a_run(tmp_path):
    before = os.umask(0)
    try:
        with RunFolder(tmp_path / "run", resume=False) as folder:
            claim(folder, trained=["a"])
            folder.started()
            weights = {"weight": torch.zeros(2)}
            save_checkpoint(folder.checkpoints, 1, Checkpoint(weights, weights, {"step": 1}), keep=1)
            log = JsonlLogger(folder.path)
            log.log(1, {"loss": 1.0}, "train")
            log.close()
            events = TensorBoardLogger(folder.path)
            events.log(1, {"loss": 1.0}, "train")
            events.close()
    finally:
        os.umask(before)
    paths = [tmp_path / "run", *(tmp_path / "run").rglob("*")]
    assert len(paths) > 9
    assert [path.name for path in paths if path.stat().st_mode & 0o077 and path.name != ".lock"] == []
