"""Profile of a training step on this machine, beside the limits of its arithmetic (``usvs bench step``)."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from usvs.data.loader import make_loader
from usvs.data.sampling_plan import SamplingPlan
from usvs.store.prepared import PreparedStore
from usvs.tasks.pretraining.module import PretrainModel, model_inputs
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.tasks.pretraining.step_cost import H100, StepCost, count_step
from usvs.tasks.pretraining.task import PretrainingTask
from usvs.training.compilation import compile_module
from usvs.training.environment import describe_environment
from usvs.training.process import process_settings
from usvs.training.threads import compute_threads
from usvs.training.trainer import Trainer, choose_device
from usvs.utils.progress import track

MATRIX_SIDE = 2048
ARCHIVE_HOURS = 10_000.0
MAX_SECONDS = 0.5  # for the repetitions of one small measurement


@dataclass(frozen=True)
class StepProfile:
    """Medians over steps, in seconds; loading is measured on one thread.

    Attributes:
        loader: reading, decoding and augmenting a batch.
        forward: networks and spectrograms.
        losses: Eq. 3, from the networks' outputs.
        backward: the backward pass.
        optimiser: clipping and update.
        step: a complete training step, without loading.
        convolutions: the step's convolutions alone, each in its faster memory layout: a lower bound of `step`.
        convolutions_as_trained: the same, all in channels-last memory, as in training.
        matrix_flops: operations a second of a large matrix product at the run's precision.
        cost: operations and bytes, counted.
        environment: device, versions, revision.
    """

    loader: float
    forward: float
    losses: float
    backward: float
    optimiser: float
    step: float
    convolutions: float
    convolutions_as_trained: float
    matrix_flops: float
    cost: StepCost
    environment: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return all values as JSON, with the printed lines."""
        return asdict(self) | {"lines": str(self).splitlines()}

    def __str__(self) -> str:
        flops, clips = self.cost.flop / self.step, self.cost.clips
        parts = ("loader", "forward", "losses", "backward", "optimiser")
        lines = [f"{name:<10} {getattr(self, name):9.4f} s" for name in parts]
        lines += [
            f"{'step':<10} {self.step:9.4f} s, {clips / self.step:.2f} clips/s, without loading",
            f"per clip {self.cost.flop / clips / 1e9:.1f} GFLOP and {self.cost.bytes / clips / 1e9:.2f} GB of traffic",
            f"{flops / 1e9:.1f} GFLOP/s, {flops / self.matrix_flops:.0%} of a matrix product's"
            f" {self.matrix_flops / 1e9:.0f}; the convolutions alone take {self.convolutions:.4f} s,"
            f" {self.convolutions / self.step:.0%} of the step, each in its faster memory layout,"
            f" {self.convolutions_as_trained:.4f} s as trained",
            f"loader threads that this device needs: {self.loader / self.step:.2f}",
        ]
        return "\n".join(lines + self._predictions())

    def _predictions(self) -> list[str]:
        lines = []
        for devices in (1, 8):
            seconds = self.cost.seconds_at_least(H100, devices)
            rate, hours = self.cost.clips / seconds, self.cost.epochs_hours(seconds, ARCHIVE_HOURS, 2.0, 1)
            threads = self.loader / self.cost.clips * rate
            lines.append(
                f"{devices} x {H100.name}, roofline: at most {rate:.0f} clips/s,"
                f" {threads:.0f} loader threads; an epoch of {ARCHIVE_HOURS:,.0f} h in at least {hours:.2g} h"
            )
        return lines


def profile_step(store: str | Path, settings: PretrainSettings, steps: int) -> StepProfile:
    """Measure training steps on a prepared store.

    Args:
        store: the prepared store whose batches are used.
        settings: of the run.
        steps: number of measured steps, after one that is not.

    Raises:
        DataError: for a store without prepared scans.
    """
    prepared = PreparedStore(Path(store))
    device = choose_device(settings.run.device)
    model = PretrainingTask(settings).module()
    trainer = Trainer(model, settings.optimiser, settings.run, steps + 1, steps + 1)
    with process_settings(device), compute_threads(trainer.compute.threads):  # as in `usvs.pretrain`
        return _profile(prepared, model, trainer, settings, steps)


def _profile(
    prepared: PreparedStore, model: PretrainModel, trainer: Trainer, settings: PretrainSettings, steps: int
) -> StepProfile:
    plan = SamplingPlan(
        prepared.clips, settings.clips, settings.objective, settings.run.seed, settings.optimiser.batch_clips
    )
    loader = make_loader(prepared, plan, settings.pairs, trainer.device)
    measured: dict[str, list[float]] = {}
    convolutions = _Convolutions(model)
    outputs = compile_module(model, settings.run.compile, "outputs")
    for step in track(range(steps + 1), "measuring steps"):
        clock = _Stopclock(trainer.device)
        batch = model_inputs(loader.batch(step))
        times = {"loader": clock.lap()}
        _time_parts(trainer, outputs, batch, clock, times)
        trainer.step(*batch)
        times["step"] = clock.lap()
        for name, seconds in times.items():
            measured.setdefault(name, []).append(seconds)
    counted = settings.model_copy(
        update={"optimiser": settings.optimiser.model_copy(update={"batch_clips": plan.batch_size})}
    )
    convolutions.record(model, trainer, batch)
    best, as_trained = convolutions.seconds(trainer)
    return StepProfile(
        **{name: statistics.median(seconds[1:]) for name, seconds in measured.items()},
        convolutions=best,
        convolutions_as_trained=as_trained,
        matrix_flops=matrix_flops(trainer),
        cost=count_step(counted),
        environment=describe_environment(trainer.device),
    )


def matrix_flops(trainer: Trainer) -> float:
    """Return the operations a second of a large matrix product at the run's precision.

    As a matrix product and as a 1 x 1 convolution, whichever is faster: on a CPU two libraries make them, and MKL uses
    half of what some processors have.
    """
    left = torch.randn(MATRIX_SIDE, MATRIX_SIDE, device=trainer.device)
    left = left.bfloat16() if trainer.run.precision == "bfloat16" else left
    images = left.view(MATRIX_SIDE // 64, 8, 8, MATRIX_SIDE).permute(0, 3, 1, 2)  # channels-last, a pixel a row
    kernels = left.view(MATRIX_SIDE, MATRIX_SIDE, 1, 1)
    products: tuple[Callable[[], Any], ...] = (lambda: left @ left, lambda: F.conv2d(images, kernels))
    return 2 * MATRIX_SIDE**3 / min(_best(product, trainer.device) for product in products)


def _time_parts(
    trainer: Trainer, outputs: Any, batch: tuple[Tensor, ...], clock: "_Stopclock", times: dict[str, float]
) -> None:
    """Time the parts of a step whose update changes no parameter."""
    module: Any = trainer.module
    trainer.compute.set_training(True)
    outputs.train(True)
    inputs = trainer.compute.to_device(batch)
    clock.lap()
    with trainer.compute.precision():
        result = outputs(*inputs)
        times["forward"] = clock.lap()
        total = module.loss(result).total
        times["losses"] = clock.lap()
    total.backward()
    times["backward"] = clock.lap()
    nn.utils.clip_grad_norm_(module.parameters(), 1e-12)  # so that the update is negligible
    for group in trainer.optimiser.param_groups:
        group["lr"] = 0.0
    trainer.optimiser.step()
    times["optimiser"] = clock.lap()
    trainer.optimiser.zero_grad(set_to_none=True)
    clock.lap()


class _Stopclock:
    def __init__(self, device: torch.device) -> None:
        self.device, self.last = device, time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap, the device's work included."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        return seconds


class _Convolutions:
    """The convolutions of a step, to be timed one by one."""

    def __init__(self, module: nn.Module) -> None:
        self._counts: dict[tuple[Any, ...], int] = {}
        self._layers = [child for child in module.modules() if isinstance(child, nn.Conv2d)]

    def record(self, model: PretrainModel, trainer: Trainer, batch: tuple[Tensor, ...]) -> None:
        """Run forward once and record every convolution's shape."""

        def record_shape(layer: nn.Conv2d, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            shape = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
            key = (tuple(inputs[0].shape), *shape, layer.dilation, layer.groups)
            self._counts[key] = self._counts.get(key, 0) + 1

        hooks = [layer.register_forward_hook(record_shape) for layer in self._layers]
        with torch.no_grad(), trainer.compute.precision():
            model.outputs(*trainer.compute.to_device(batch))
        for hook in hooks:
            hook.remove()

    def seconds(self, trainer: Trainer) -> tuple[float, float]:
        """Return the time of all, forward and backward: each in its faster memory layout, and all in channels-last."""
        times = [[count * seconds for seconds in self._seconds_of(key, trainer)] for key, count in self._counts.items()]
        return sum(min(of_one) for of_one in times), sum(of_one[0] for of_one in times)

    def _seconds_of(self, key: tuple[Any, ...], trainer: Trainer) -> list[float]:
        """One convolution's time in channels-last memory, and in contiguous."""
        shape, channels, out, kernel, stride, padding, dilation, groups = key
        if shape[0] == 0:
            return [0.0, 0.0]
        times = []
        for layout in (torch.channels_last, torch.contiguous_format):
            layer = nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias=False)
            layer.to(trainer.device).to(memory_format=layout)  # type: ignore[call-overload]
            maps = torch.randn(shape, device=trainer.device).to(memory_format=layout)
            maps = maps.bfloat16() if trainer.run.precision == "bfloat16" else maps
            maps.requires_grad_(channels > 1)  # images need no gradient

            def run(layer: nn.Conv2d = layer, maps: Tensor = maps) -> None:
                with trainer.compute.precision():
                    result = layer(maps)
                result.backward(result)

            times.append(_best(run, trainer.device))
        return times


def _best(act: Callable[[], Any], device: torch.device) -> float:
    """The fastest of some runs, after one that is not measured."""
    act()
    clock = _Stopclock(device)
    times: list[float] = []
    while len(times) < 2 or (sum(times) < MAX_SECONDS and len(times) < 20):
        clock.lap()
        act()
        times.append(clock.lap())
    return min(times)
