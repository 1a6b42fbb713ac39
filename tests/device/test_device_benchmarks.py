"""benchmarks/device.py without a device: what it writes, what fails it, and how it measures."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import device, device_results
from benchmarks.device_results import Results


def test_peers_of_the_loss_agree_and_a_wrong_one_is_named(monkeypatch: pytest.MonkeyPatch):
    device.check_peers("cpu", {})
    monkeypatch.setattr(device, "eager", lambda inputs: lambda: [1.01 * x for x in device.usvs_step(inputs)()])
    monkeypatch.setattr(device, "sigmoid_chunks", lambda inputs: lambda: 1 / 0)
    measured: dict[str, object] = {}
    written: list[int] = []
    with pytest.raises(AssertionError, match=r"torch eager, torch.float32, n = 70.*: expected an error of") as caught:
        device.check_peers("cpu", measured, lambda: written.append(len(measured)))
    failed = "SigLIP chunks (another loss), torch.float32, n = 70, M = 150, d = 40: ZeroDivisionError"
    assert failed in str(caught.value)
    assert written[:2] == [1, 2] and written[-1] == len(measured), "what was measured is written after each peer"
    assert any("row chunks" in label and "d = 256" in label for label in measured), "others are compared all the same"


def test_measurements_that_no_longer_fit_are_named_and_a_peer_may_fail(tmp_path: Path):
    results = Results("cpu", tmp_path / "out.json", until=0.0)
    results.measure("late", lambda: lambda: None, 0.0, required=True)
    results.end += 1e9
    results.measure("early", lambda: lambda: None, 0.0, required=True)
    results.measure("peer", lambda: lambda: 1 / 0, 0.0, required=False)
    results.finish()
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["not measured"] == ["late"] and written["early"]["host"] >= 0 and written["failed"] == []
    assert written["peer"].startswith("ZeroDivisionError")


def test_a_failure_of_usvs_fails_the_benchmarks_after_all_were_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(device, "contrastive_loss", lambda *inputs: 1 / 0)
    command = ["device.py", "--device", "cpu", "--out", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match=r"loss, usvs, torch.bfloat16, n = 32, M = 96, d = 128: ZeroDivisionError"):
        device.main()
    written = json.loads((tmp_path / "out.json").read_text())
    assert (
        len(written["failed"]) == 3 and written["loss, torch eager, torch.float32, n = 32, M = 96, d = 512"]["host"] > 0
    )


@pytest.mark.parametrize("late_calls", [0, 3, 10**6], ids=str)
def test_a_device_waits_until_the_host_has_launched_a_call(late_calls: int, monkeypatch: pytest.MonkeyPatch):
    waits: list[int] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            pass

        def record(self) -> None:
            pass

        def query(self) -> bool:
            return len(waits) <= late_calls

        def synchronize(self) -> None:
            pass

        def elapsed_time(self, stop: "Event") -> float:
            return 1.0 if len(waits) > late_calls else 9.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", waits.append)
    clock = device_results.Clock("cpu")
    clock.evicts = torch.ones(4, dtype=torch.uint8)
    times = clock.medians_ms(lambda: None, 0.0)
    assert clock.evicts.tolist() == [0] * 4
    doubled = [2**number * 10**6 for number in range(5)]
    if late_calls <= 3:
        assert times["device"] == 1.0 and waits == [*doubled[:late_calls], *[doubled[late_calls]] * 3]
    else:
        assert times["device and its waits for the host"] == 9.0 and waits == [*doubled, *doubled[-1:] * 2]


def test_a_device_that_stopped_working_ends_the_benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def lost() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nadvice")

    results = Results("cpu", tmp_path / "out.json", until=1e9)
    results.device = "cuda"
    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    with pytest.raises(SystemExit, match="the device stopped working at 'peer': RuntimeError: CUDA error: an illegal"):
        results.measure("peer", lambda: lambda: 1 / 0, 0.0, required=False)
    assert json.loads((tmp_path / "out.json").read_text())["peer"].startswith("ZeroDivisionError")


def test_compiled_peers_have_nothing_of_the_size_before(monkeypatch: pytest.MonkeyPatch):
    events: list[object] = []

    class Recorded:
        device = "cuda"

        @staticmethod
        def measure(label: str, make: Callable[[], object], seconds: float, required: bool) -> None:
            assert not required
            events.append((label, make()))

    monkeypatch.setattr(torch.compiler, "reset", lambda: events.append("reset"))
    monkeypatch.setattr(device, "loss_inputs", lambda size, device, seed: size)
    monkeypatch.setattr(device, "compiled", str)
    monkeypatch.setattr(device, "waveforms", lambda device, clips: clips)
    monkeypatch.setattr(device, "compiled_stft", str)
    device.compiled_times(Recorded(), 0.0)
    assert events[::2] == ["reset"] * 5
    assert all(label == f"loss, torch.compile, {size}" for label, size in events[1:8:2])
    assert len(set(events[1::2])) == 5 and events[-1][1] == "256"
