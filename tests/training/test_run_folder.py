"""Who may use a run folder, and what a failed start leaves."""

import json
import os

import pytest
import torch

from usvs.errors import ConfigError, DataError
from usvs.training.checkpoint import Checkpoint, save_checkpoint
from usvs.training.loggers import TensorBoardLogger
from usvs.training.metrics_log import JsonlLogger
from usvs.training.run_folder import RunFolder, first_difference
from usvs.training.settings import RunSettings

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


def test_an_empty_folder_that_was_there_is_not_removed(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(KeyError), RunFolder(tmp_path / "run", resume=False) as folder:
        claim(folder)
        raise KeyError
    assert (tmp_path / "run").exists()


def test_a_second_process_is_refused_while_the_first_one_works(tmp_path):
    with RunFolder(tmp_path / "run", resume=False) as first:
        claim(first)
        first.started()
        with pytest.raises(ConfigError, match="in use by another usvs process"), RunFolder(first.path, True) as second:
            claim(second)
        assert (tmp_path / "run" / "config.json").exists()
    with RunFolder(tmp_path / "run", resume=True) as third:
        claim(third)


def test_other_records_of_the_same_run_are_refused(tmp_path):
    with RunFolder(tmp_path / "run", resume=False) as folder:
        claim(folder, trained=["a"])
        folder.started()
    with pytest.raises(DataError, match=r"patients\.json' differs"), RunFolder(tmp_path / "run", resume=True) as folder:
        claim(folder, trained=["b"])
    assert json.loads((tmp_path / "run" / "patients.json").read_text()) == {"trained": ["a"]}


def test_the_first_difference_that_matters_is_named():
    before = {"run": {"seed": 0, "device": "cpu"}, "epochs": 3}
    assert first_difference(before, before) is None
    assert first_difference(before, {"run": {"seed": 0, "device": "cuda"}, "epochs": 3}) is None
    assert first_difference(before, {"run": {"seed": 1, "device": "cpu"}, "epochs": 4}) == "run.seed: 0, now 1"
    assert first_difference(before, {**before, "added": 2}) == "added: None, now 2"


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
