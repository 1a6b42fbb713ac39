"""How many processor cores feed a device: processor time of loading (``usvs bench loader``)."""

import time
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from usvs.data.loader import make_loader
from usvs.data.sampling_plan import SamplingPlan
from usvs.errors import ConfigError
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.tasks.pretraining.step_cost import H100, count_step
from usvs.training.environment import describe_environment
from usvs.training.process import process_settings
from usvs.training.trainer import choose_device
from usvs.utils.progress import track

WARM_UP = 3  # batches: scans are opened and their columns verified


@dataclass(frozen=True)
class LoaderProfile:
    """Processor time of loading, of all threads of the process.

    Attributes:
        loader: the backend.
        workers: its threads.
        clips: in a batch.
        batches: that were measured.
        processor_seconds: of one batch.
        wall_seconds: of one batch, loaded ahead on the threads.
        batch_bytes: of the tensors of one batch.
        device_clips_per_second: at most, of one H100 with these settings, by its roofline.
        environment: device, versions, revision.
    """

    loader: str
    workers: int
    clips: int
    batches: int
    processor_seconds: float
    wall_seconds: float
    batch_bytes: int
    device_clips_per_second: float
    environment: dict[str, Any]

    @property
    def clips_per_second_of_core(self) -> float:
        """Clips that one core loads a second."""
        return self.clips / self.processor_seconds

    def cores(self, devices: int) -> float:
        """Return how many of these cores load what `devices` train at most; each has its share of the roofline."""
        return devices * self.device_clips_per_second / self.clips_per_second_of_core

    def as_json(self) -> dict[str, Any]:
        """Return all values as JSON, with the printed lines."""
        derived = {"clips_per_second_of_core": self.clips_per_second_of_core, "cores_for_one_h100": self.cores(1)}
        return asdict(self) | derived | {"lines": str(self).splitlines()}

    def __str__(self) -> str:
        return "\n".join(
            (
                f"loader {self.loader} on {self.workers} threads, {self.clips} clips a batch of"
                f" {self.batch_bytes / 1e6:.1f} MB",
                f"processor time {1e3 * self.processor_seconds / self.clips:.2f} ms a clip:"
                f" {self.clips_per_second_of_core:.0f} clips/s a core",
                f"wall time {1e3 * self.wall_seconds / self.clips:.2f} ms a clip, loaded ahead on the threads",
                *(
                    f"{devices} x {H100.name}, roofline: at most {devices * self.device_clips_per_second:.0f} clips/s,"
                    f" fed by {self.cores(devices):.1f} cores like these"
                    for devices in (1, 8)
                ),
            )
        )


def profile_loader(store: str | Path, settings: PretrainSettings, batches: int) -> LoaderProfile:
    """Measure the loading of batches that are drawn from a complete prepared store.

    Args:
        store: the prepared store.
        settings: of the run; `run.loader`, `run.loader_workers` and `optimiser.batch_clips` among them.
        batches: number of measured batches, after some that are not.

    Raises:
        ConfigError: for less than one batch.
        DataError: for a store without prepared scans.
    """
    if batches < 1:
        raise ConfigError(f"batches to measure: expected at least 1, got {batches}")
    prepared, device = PreparedStore(Path(store)), choose_device(settings.run.device)
    plan = SamplingPlan(
        prepared.clips, settings.clips, settings.objective, settings.run.seed, settings.optimiser.batch_clips
    )
    loader = make_loader(prepared, plan, settings.pairs, device)
    size = 0
    # Closing waits for the threads: what they load ahead is work of the batches that are asked for.
    with process_settings(device), closing(loader.batches(0, WARM_UP + batches)) as loaded:  # type: ignore[type-var]
        for _ in islice(loaded, WARM_UP):
            pass
        processor, wall = time.process_time(), time.perf_counter()
        for batch in track(loaded, "loading batches", batches):
            size = sum(tensor.nbytes for tensor in batch)
        processor, wall = time.process_time() - processor, time.perf_counter() - wall
    half = settings.model_copy(update={"run": settings.run.model_copy(update={"precision": "bfloat16"})})
    cost = count_step(half)
    return LoaderProfile(
        loader=settings.run.loader,
        workers=settings.run.loader_workers,
        clips=plan.batch_size,
        batches=batches,
        processor_seconds=processor / batches,
        wall_seconds=wall / batches,
        batch_bytes=size,
        device_clips_per_second=cost.clips / cost.seconds_at_least(H100),
        environment=describe_environment(device),
    )
