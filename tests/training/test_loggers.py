import json
import math
import socket
import sys
from types import SimpleNamespace

import pytest

from usvs.errors import DataError, MissingDependencyError
from usvs.training import loggers as module
from usvs.training.loggers import MLflowLogger, TensorBoardLogger, WandbLogger
from usvs.training.metrics_log import JsonlLogger, last_metrics, read_metrics


def test_records_are_lines(tmp_path):
    log = JsonlLogger(tmp_path)
    log.log(1, {"total": 0.5}, "train")
    log.log(2, {"order": 2.4, "order_chance": math.log(12)}, "validation")
    log.close()
    assert read_metrics(tmp_path) == [
        {"step": 1, "split": "train", "total": 0.5},
        {"step": 2, "split": "validation", "order": 2.4, "order_chance": math.log(12)},
    ]
    assert last_metrics(tmp_path, "train") == {"total": 0.5}
    assert last_metrics(tmp_path, "validation") == {"order": 2.4, "order_chance": math.log(12)}


def test_records_are_tensorboard_events_without_the_name_of_the_machine(tmp_path):
    gethostname = socket.gethostname
    log = TensorBoardLogger(tmp_path)
    log.log(1, {"total": 0.5}, "train")
    log.log(2, {"order": 2.4, "order_chance": math.log(12)}, "validation")
    log.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {"total/train", "order/validation", "order_chance/validation"}
    assert events.Scalars("total/train")[0].value == 0.5
    for path in tmp_path.iterdir():
        assert socket.gethostname() not in path.name and socket.gethostname().encode() not in path.read_bytes()
    assert socket.gethostname is gethostname


def test_tensorboard_hides_what_a_resumed_run_repeats(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = TensorBoardLogger(tmp_path)
    for step in (1, 2, 3):
        log.log(step, {"total": float(step)}, "train")
    log.close()
    log = TensorBoardLogger(tmp_path, step=2)
    log.log(3, {"total": 30.0}, "train")
    log.close()
    values = {event.step: event.value for event in EventAccumulator(str(tmp_path)).Reload().Scalars("total/train")}
    assert values[1] == 1.0 and values[3] == 30.0


def test_without_tensorboard_its_logger_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "tensorboard_is_installed", lambda: False)
    with pytest.raises(MissingDependencyError, match="pip install tensorboard"):
        TensorBoardLogger(tmp_path)


def test_resuming_drops_what_will_be_repeated(tmp_path):
    log = JsonlLogger(tmp_path)
    for step in (1, 2, 3):
        log.log(step, {"total": float(step)}, "train")
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "spl')  # a kill in the middle of a line
    log = JsonlLogger(tmp_path, step=2)
    log.log(3, {"total": 3.0}, "train")
    log.close()
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3]


def test_a_line_that_is_not_a_record_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + "\nnonsense\n")
    with pytest.raises(DataError, match="nonsense"):
        read_metrics(tmp_path)
    with pytest.raises(DataError, match="No such file"):
        read_metrics(tmp_path / "nothing")


class FakeTracker(SimpleNamespace):
    """The few functions of mlflow and wandb that the loggers call, recording their arguments."""

    def __init__(self) -> None:
        super().__init__(calls=[])

    def __getattr__(self, name):
        def record(*arguments, **keywords):
            self.calls.append((name, *arguments, *keywords.items()))
            return self

        return record


def test_mlflow_gets_all_metrics_of_a_step_in_one_call(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", tracker := FakeTracker())
    log = MLflowLogger("name", tracking_uri="file:mlruns")
    log.log(3, {"total": 1.0, "order": 2.0}, "validation")
    log.close()
    assert tracker.calls == [
        ("set_tracking_uri", "file:mlruns"),
        ("start_run", ("run_name", "name")),
        ("log_metrics", {"validation/total": 1.0, "validation/order": 2.0}, ("step", 3)),
        ("end_run",),
    ]


def test_wandb_gets_all_metrics_of_a_step_in_one_call(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", tracker := FakeTracker())
    log = WandbLogger(project="usvs")
    log.log(3, {"total": 1.0}, "train")
    log.close()
    assert tracker.calls == [("init", ("project", "usvs")), ("log", {"train/total": 1.0}, ("step", 3)), ("finish",)]


@pytest.mark.parametrize(("make", "package"), [(MLflowLogger, "mlflow"), (WandbLogger, "wandb")])
def test_a_tracker_that_is_not_installed_is_named(make, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=f"pip install {package}"):
        make()
