"""Shared by the benchmarks: `--device`, thread counts, and a report with device, versions and revision."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.interleaved import Comparison
from usvs.ops import build_info


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--device` and `--rounds`."""
    parser.addoption("--device", default="cpu", choices=["cpu", "cuda"], help="where the ops and their peers run")
    parser.addoption("--rounds", type=int, default=9, help="rounds, in each of which every contender runs once")


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Keep device, cores and build information only."""
    machine_info.clear()
    machine_info.update(device=_device_name(config.getoption("--device")), cores=os.cpu_count(), **build_info())


def pytest_benchmark_update_commit_info(config: pytest.Config, commit_info: dict[str, Any]) -> None:
    """Keep the revision, and whether files differ from it."""
    kept = {name: commit_info.get(name) for name in ("id", "dirty", "time")}
    commit_info.clear()
    commit_info.update(kept)


def _device_name(device: str) -> str:
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """`cpu` or `cuda`."""
    name: str = request.config.getoption("--device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return name


@pytest.fixture(params=[1, "all"], ids=["1-thread", "all-threads"])
def threads(request: pytest.FixtureRequest, device: str) -> Iterator[int]:
    """Threads of the CPU: one, and as many as there are cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = 1 if request.param == 1 else cores
    if request.param == "all" and (device == "cuda" or cores == 1):
        pytest.skip("a GPU's figures do not depend on the threads of the CPU" if device == "cuda" else "one core only")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield count
    torch.set_num_threads(before)


@pytest.fixture
def comparison(request: pytest.FixtureRequest, benchmark: Any, device: str) -> Comparison:
    """An empty comparison on the chosen device."""
    return Comparison(benchmark, device, request.config.getoption("--rounds"))
