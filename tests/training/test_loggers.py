import json
import math
import socket

import pytest

from usvs.errors import DataError
from usvs.training.run_log import RunLog, read_metrics


def test_records_are_lines_and_events(tmp_path):
    with RunLog(tmp_path, 0) as log:
        log.record(1, "train", {"total": 0.5})
        log.record(2, "held_out", {"order": 2.4, "order_chance": math.log(12)})
    assert read_metrics(tmp_path) == [
        {"step": 1, "split": "train", "total": 0.5},
        {"step": 2, "split": "validation", "order": 2.4, "order_chance": math.log(12)},
    ]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {"total/train", "order/held_out", "order_chance/held_out"}
    assert events.Scalars("total/train")[0].value == 0.5
    assert not any(socket.gethostname() in path.name for path in tmp_path.iterdir())


def test_resuming_drops_what_will_be_made_again(tmp_path):
    with RunLog(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.record(step, "train", {"total": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "spl')  # a kill in the middle of a line
    with RunLog(tmp_path, 2) as log:
        log.record(3, "train", {"total": 3.0})
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3]


def test_a_line_that_is_no_record_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + "\nnonsense\n")
    with pytest.raises(DataError, match="nonsense"):
        read_metrics(tmp_path)
    with pytest.raises(DataError, match="No such file"):
        read_metrics(tmp_path / "nothing")
