import json

import pytest
import torch

from usvs.errors import DataError, ResourceError
from usvs.training import checkpoint as module
from usvs.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_newest_checkpoint,
    newest_checkpoint_folder,
    save_checkpoint,
    step_folders,
)
from usvs.training.checkpoint_saver import CheckpointSaver


def some(step: int) -> Checkpoint:
    weight = torch.full((4, 2, 3, 3), float(step)).to(memory_format=torch.channels_last)
    return Checkpoint({"a.weight": weight}, {"a.weight/exp_avg": weight + 1}, {"step": step})


def flip_a_bit(path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_round_trip_and_keep_last(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, some(step), keep=2)
    assert [path.name for path in step_folders(tmp_path)] == ["step_00000002", "step_00000003"]
    assert (tmp_path / "latest").read_text().strip() == "step_00000003"
    loaded = load_newest_checkpoint(tmp_path)
    assert loaded is not None and loaded.state == {"step": 3}
    assert torch.equal(loaded.model["a.weight"], some(3).model["a.weight"])
    assert torch.equal(loaded.optimiser["a.weight/exp_avg"], some(4).model["a.weight"])
    files = {"model.safetensors", "optimiser.safetensors", "state.json", "manifest.json"}
    assert {path.name for path in (tmp_path / "step_00000003").iterdir()} == files
    assert {path.name for path in tmp_path.iterdir()} == {"latest", "step_00000002", "step_00000003"}


def test_the_best_stays_beside_the_last(tmp_path):
    for step, best in ((1, 1), (2, 1), (3, 3), (4, 3), (5, 3), (6, 3)):
        save_checkpoint(tmp_path, step, some(step), keep=2, best_step=best)
    assert [path.name[-1] for path in step_folders(tmp_path)] == ["3", "5", "6"]
    assert newest_checkpoint_folder(tmp_path / "best") == tmp_path / "step_00000003"
    assert newest_checkpoint_folder(tmp_path / "latest") == tmp_path / "step_00000006"


def test_the_saver_writes_what_was_there_when_it_was_called(tmp_path, monkeypatch):
    weight = torch.ones(3)
    saver = CheckpointSaver(tmp_path, keep=2)
    saver.save(1, Checkpoint({"w": weight}, {}, {"step": 1}))
    weight += 1
    saver.close()
    loaded = load_newest_checkpoint(tmp_path)
    assert loaded is not None and torch.equal(loaded.model["w"], torch.ones(3))

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    saver = CheckpointSaver(tmp_path, keep=2)
    saver.save(2, Checkpoint({"w": weight}, {}, {"step": 2}))
    with pytest.raises(ResourceError, match="No space left"):
        saver.wait()
    saver.close()


def test_nothing_saved_is_none(tmp_path):
    assert load_newest_checkpoint(tmp_path / "checkpoints") is None


@pytest.mark.parametrize("name", ["model.safetensors", "optimiser.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("harm", [flip_a_bit, lambda path: path.unlink()])
def test_damage_is_named_and_the_previous_one_is_used(tmp_path, caplog, name, harm):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, some(step), keep=2)
    harm(tmp_path / "step_00000002" / name)
    with pytest.raises(DataError, match=name):
        load_checkpoint(tmp_path / "step_00000002")
    loaded = load_newest_checkpoint(tmp_path)
    assert loaded is not None and loaded.state == {"step": 1}
    assert "step_00000002" in caplog.text and "trying the previous checkpoint" in caplog.text

    save_checkpoint(tmp_path, 2, some(2), keep=2)  # the run comes by again
    assert load_checkpoint(tmp_path / "step_00000002").state == {"step": 2}


def test_no_valid_one_is_an_error(tmp_path):
    save_checkpoint(tmp_path, 1, some(1), keep=1)
    flip_a_bit(tmp_path / "step_00000001" / "model.safetensors")
    with pytest.raises(DataError, match=r"no valid checkpoint.*model\.safetensors does not match"):
        load_newest_checkpoint(tmp_path)


def test_a_damaged_later_one_does_not_push_out_the_good_one(tmp_path):
    save_checkpoint(tmp_path, 5, some(5), keep=1)
    flip_a_bit(tmp_path / "step_00000005" / "state.json")
    save_checkpoint(tmp_path, 3, some(3), keep=1)
    loaded = load_newest_checkpoint(tmp_path)
    assert loaded is not None and loaded.state == {"step": 3}
    assert [path.name for path in step_folders(tmp_path)] == ["step_00000003"]


def test_leftovers_of_a_kill_are_ignored_and_swept(tmp_path):
    save_checkpoint(tmp_path, 1, some(1), keep=2)
    leftover = tmp_path / ".writing-step_00000002"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    loaded = load_newest_checkpoint(tmp_path)
    assert loaded is not None and loaded.state == {"step": 1}
    save_checkpoint(tmp_path, 2, some(2), keep=2)
    assert not leftover.exists()


@pytest.mark.parametrize("call", ["_write_folder", "sync_folder", "write_text", "_remove_superseded"])
def test_a_kill_between_any_two_acts_leaves_a_readable_one(tmp_path, monkeypatch, call):
    save_checkpoint(tmp_path, 1, some(1), keep=1)

    class Killed(BaseException):
        pass

    def die(*_arguments):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, call, die)
        save_checkpoint(tmp_path, 2, some(2), keep=1)
    loaded = load_newest_checkpoint(tmp_path)
    assert loaded is not None and loaded.state["step"] in (1, 2)
    save_checkpoint(tmp_path, 2, some(2), keep=1)
    loaded = load_newest_checkpoint(tmp_path)
    assert loaded is not None and loaded.state == {"step": 2}


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 1, some(1), keep=1)

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        save_checkpoint(tmp_path, 2, some(2), keep=1)
    monkeypatch.undo()
    loaded = load_newest_checkpoint(tmp_path)
    assert loaded is not None and loaded.state == {"step": 1}


def test_a_newer_format_is_refused(tmp_path):
    folder = save_checkpoint(tmp_path, 1, some(1), keep=1)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "version": 99}))
    with pytest.raises(DataError, match="expected format version 2, got 99"):
        load_checkpoint(folder)


def test_a_path_means_a_run_or_a_checkpoint(tmp_path):
    folder = save_checkpoint(tmp_path / "checkpoints", 1, some(1), keep=1)
    assert newest_checkpoint_folder(tmp_path) == folder
    assert newest_checkpoint_folder(folder) == folder
    with pytest.raises(DataError, match="expected a run folder with a checkpoint"):
        newest_checkpoint_folder(tmp_path / "nothing")


def test_reading_runs_no_code(tmp_path):
    import sys

    folder = save_checkpoint(tmp_path, 1, some(1), keep=1)
    events: list[str] = []
    active = True

    def watch(event: str, _arguments: object) -> None:
        if active and event in ("pickle.find_class", "exec", "compile"):
            events.append(event)

    sys.addaudithook(watch)
    load_checkpoint(folder)
    active = False
    assert events == []
