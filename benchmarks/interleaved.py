"""Contenders side by side: in every round each runs once, so that whatever else the machine does meets them all."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


class Comparison:
    """One workload, ours against its peers.

    Args:
        benchmark: pytest-benchmark's fixture; it times ours, and its report takes the peers along.
        device: ``cpu`` or ``cuda``.
        rounds: rounds after one that is not counted.
    """

    def __init__(self, benchmark: Any, device: str, rounds: int) -> None:
        self.benchmark = benchmark
        self.device = device
        self.rounds = rounds
        self.peers: dict[str, Callable[[], Any]] = {}
        self.skipped: dict[str, str] = {}

    def add(self, name: str, make: Callable[[], Callable[[], Any]], check: Callable[[Any], None]) -> None:
        """Add a peer if it can be had here and does the same; `make` imports and prepares, `check` judges a result."""
        try:
            run = make()
        except (ImportError, OSError, RuntimeError) as error:
            self.skipped[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"\n{name}: skipped ({self.skipped[name]})")
            return
        check(run())
        self.peers[name] = run

    def run(self, ours: Callable[[], Any], calls: int, per_call: float, unit: str, limit: float | None = None) -> None:
        """Time everything; a sample is `calls` calls, a figure seconds divided by `per_call` units a call.

        Args:
            ours: what the peers are held against.
            calls: calls a sample, more for short ones.
            per_call: how many of `unit` one call does.
            unit: ``clip`` or ``step``.
            limit: the least seconds a `unit` this machine could need, if known.
        """
        times: dict[str, list[float]] = {name: [] for name in self.peers}

        def sample(run: Callable[[], Any]) -> float:
            begin = time.perf_counter()
            for _ in range(calls):
                run()
            self._wait()
            return time.perf_counter() - begin

        def run_peers() -> None:
            for name, run in self.peers.items():
                times[name].append(sample(run))

        self.benchmark.pedantic(
            lambda: sample(ours), setup=run_peers, rounds=self.rounds, warmup_rounds=1, iterations=1
        )
        if self.benchmark.stats is None:  # --benchmark-disable
            return
        mine = self.benchmark.stats.stats.data
        self.benchmark.extra_info.update(
            unit=unit,
            seconds=statistics.median(mine) / calls / per_call,
            limit_seconds=limit,
            device=self.device,
            threads=torch.get_num_threads(),
            skipped=self.skipped,
            peers={
                name: {
                    "seconds": statistics.median(found[-len(mine) :]) / calls / per_call,
                    "times_ours": statistics.median(p / o for p, o in zip(found[-len(mine) :], mine, strict=True)),
                }
                for name, found in times.items()
            },
        )

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
