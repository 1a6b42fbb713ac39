"""What benchmarks/device.py measures of a call, and the file of it.

Two medians in ms: `device`, between events around the call, and `host`, until the call has returned. Before each call a
buffer is written that is larger than the caches, so that inputs are read from memory, and the device waits until the
host has launched the whole call: `device` is the time of its kernels at small sizes, too. Where the host takes longer
than the longest wait, the name says so. In a loop of small calls, the larger of the two is what a call takes. On a CPU
there is `host` alone.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tests.device.small import device_name

EVICTING_BYTES = 2**28  # the L2 cache of an H200 has 60 MB
WAIT_CYCLES = (10**6, 16 * 10**6)  # of the device before a call; at 2 GHz 0.5 ms, and 8 ms at most


class Clock:
    """Measures calls on a device, or on the host for the rehearsal."""

    def __init__(self, device: str) -> None:
        self.evicts = torch.empty(EVICTING_BYTES, dtype=torch.uint8, device=device) if device == "cuda" else None

    def medians_ms(self, run: Callable[[], object], seconds: float) -> dict[str, float]:
        """Return the median times of a call, from at least three."""
        run()  # compiles, and fills the allocator's cache
        if self.evicts is not None:
            return self._of_device(run, seconds, self.evicts)
        times: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 3:
            begin = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - begin))
        return {"host": statistics.median(times)}

    @staticmethod
    def _of_device(run: Callable[[], object], seconds: float, evicts: torch.Tensor) -> dict[str, float]:
        on_device: list[float] = []
        on_host: list[float] = []
        cycles, late_calls = WAIT_CYCLES[0], 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(on_device) < 3:
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            evicts.zero_()
            torch.cuda._sleep(cycles)
            start.record()
            begin = time.perf_counter()
            run()
            on_host.append(1e3 * (time.perf_counter() - begin))
            is_late = start.query()  # the device began before all was launched
            stop.record()
            stop.synchronize()
            if is_late and cycles < WAIT_CYCLES[1]:
                cycles *= 2
                continue
            on_device.append(start.elapsed_time(stop))
            late_calls += is_late
        name = "device and its waits for the host" if 2 * late_calls > len(on_device) else "device"
        return {name: statistics.median(on_device), "host": statistics.median(on_host)}


class Results:
    """What was measured, written to a file after every entry, until the time is over."""

    def __init__(self, device: str, file: Path, until: float) -> None:
        self.device, self.file, self.end = device, file, time.perf_counter() + until
        self.clock = Clock(device)
        self.entries: dict[str, object] = {"device": device_name(device), "unit": "ms, medians"}
        self.not_measured: list[str] = []
        self.failed: list[str] = []

    def measure(self, label: str, make: Callable[[], Callable[[], object]], seconds: float, required: bool) -> None:
        """Time a call and write the file; of a call that fails, the error is written.

        Args:
            label: of the entry.
            make: prepares the call.
            seconds: to repeat it.
            required: whether its failure is one of the whole; a peer may fail, as for want of memory.

        Raises:
            SystemExit: if the device itself no longer works: every later call would fail.
        """
        if time.perf_counter() >= self.end:
            self.not_measured.append(label)
            return self.write()
        try:
            self.entries[label] = self.clock.medians_ms(make(), seconds)
        except Exception as error:  # of any kind: compilers and allocators raise their own
            self.entries[label] = error_text(error)
            if required:
                self.failed.append(f"{label}: {error_text(error)}")
        print(label, self.entries[label], flush=True)
        self.write()
        self.check_device(label)

    def check_device(self, label: str) -> None:
        """Stop where the device does not work any more."""
        if self.device == "cuda":
            try:
                torch.cuda.synchronize()
            except Exception as error:
                raise SystemExit(f"the device stopped working at '{label}': {error_text(error)}") from error

    def write(self) -> None:
        """Write everything so far."""
        lists = {"not measured": self.not_measured, "failed": self.failed}
        self.file.write_text(json.dumps({**self.entries, **lists}, indent=1) + "\n")

    def finish(self) -> None:
        """Raise SystemExit if a required measurement failed."""
        if self.failed:
            raise SystemExit("\n".join(self.failed))


def error_text(error: Exception) -> str:
    """Return the kind of an error and the first line of its message."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
