"""The loggers with the real MLflow and Weights & Biases (offline), where they are installed (slow: large imports)."""

import time

import pytest

from usvs.training.loggers import MLflowLogger, WandbLogger

pytestmark = pytest.mark.slow


def test_mlflow_keeps_every_metric_of_a_step(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database needs more than mlflow-skinny
    mlflow = pytest.importorskip("mlflow")
    log = MLflowLogger("name", tracking_uri=f"file://{tmp_path / 'runs'}")
    number = log.run.info.run_id
    log.log(1, {"total": 2.0}, "train")
    log.log(3, {"total": 1.0, "order": 2.5, "order_chance": 2.48}, "validation")
    log.close()
    assert mlflow.active_run() is None
    client = mlflow.MlflowClient()
    found = client.get_run(number)
    assert found.info.run_name == "name" and found.info.status == "FINISHED"
    assert found.data.metrics == {
        "train/total": 2.0,
        "validation/total": 1.0,
        "validation/order": 2.5,
        "validation/order_chance": 2.48,
    }
    (value,) = client.get_metric_history(number, "validation/order")
    assert (value.step, value.value) == (3, 2.5)
    again = MLflowLogger(run_id=number, tracking_uri=f"file://{tmp_path / 'runs'}")
    again.log(5, {"total": 0.5}, "train")
    again.close()
    assert [one.step for one in client.get_metric_history(number, "train/total")] == [1, 5]


def test_wandb_offline_keeps_every_metric_of_a_step(tmp_path):
    pytest.importorskip("wandb")
    log = WandbLogger(project="usvs", mode="offline", dir=str(tmp_path))
    log.log(1, {"total": 2.0}, "train")
    log.log(3, {"total": 1.0, "order": 2.5}, "validation")
    log.close()
    (stored,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    expected = (b"train/total", b"validation/order")
    deadline = time.monotonic() + 30  # its own process writes the file, on a busy machine after `finish` has returned
    while not all(text in stored.read_bytes() for text in expected) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert all(text in stored.read_bytes() for text in expected)
