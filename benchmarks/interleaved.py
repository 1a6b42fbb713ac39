"""Interleaved measurements: in every round each contender runs once, so that other load affects all of them."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


class Comparison:
    """One workload: usvs and its peers.

    Args:
        benchmark: pytest-benchmark's fixture; it times usvs; the peers are added to its report.
        device: ``cpu`` or ``cuda``.
        rounds: number of rounds, after one that is not counted.
    """

    def __init__(self, benchmark: Any, device: str, rounds: int) -> None:
        self.benchmark = benchmark
        self.device = device
        self.rounds = rounds
        self.peers: dict[str, Callable[[], Any]] = {}
        self.skipped: dict[str, str] = {}

    def add(self, name: str, make: Callable[[], Callable[[], Any]], check: Callable[[Any], None]) -> None:
        """Add a peer if it is installed; `make` imports and prepares it, `check` compares its result."""
        try:
            run = make()
        except (ImportError, OSError, RuntimeError) as error:
            self.skipped[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"\n{name}: skipped ({self.skipped[name]})")
            return
        check(run())
        self.peers[name] = run

    def run(
        self, run_usvs: Callable[[], Any], calls: int, per_call: float, unit: str, limit: float | None = None
    ) -> None:
        """Time usvs and its peers.

        A sample is `calls` calls; a figure is the seconds per unit, with `per_call` units in a call.

        Args:
            run_usvs: what the peers are compared with.
            calls: calls per sample, more for short ones.
            per_call: number of `unit` in one call.
            unit: ``clip`` or ``step``.
            limit: lower bound of the seconds per `unit` on this machine, if known.
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
            lambda: sample(run_usvs), setup=run_peers, rounds=self.rounds, warmup_rounds=1, iterations=1
        )
        if self.benchmark.stats is None:  # --benchmark-disable
            return
        own = self.benchmark.stats.stats.data
        self.benchmark.extra_info.update(
            unit=unit,
            seconds=statistics.median(own) / calls / per_call,
            limit_seconds=limit,
            device=self.device,
            threads=torch.get_num_threads(),
            skipped=self.skipped,
            peers={
                name: {
                    "seconds": statistics.median(found[-len(own) :]) / calls / per_call,
                    "times_usvs": statistics.median(p / o for p, o in zip(found[-len(own) :], own, strict=True)),
                }
                for name, found in times.items()
            },
        )

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
