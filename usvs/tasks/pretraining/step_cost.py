"""Cost of a step, counted and not measured: operations, bytes, and the time they need at least on some devices.

Counted on torch's meta device, where nothing is computed, so that any batch size is possible on any machine.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from usvs.data.order_sampling import ORDER_FRAMES
from usvs.tasks.pretraining.module import PretrainModel
from usvs.tasks.pretraining.settings import PretrainSettings

PASSES = 3  # over activations: forward, and both gradients of backward


@dataclass(frozen=True)
class Device:
    """Peak rates of an accelerator, from its datasheet.

    Attributes:
        name: of the device.
        flops: dense bfloat16 operations a second.
        bytes_per_second: of its memory.
        link_bytes_per_second: to its neighbours, one direction.
    """

    name: str
    flops: float
    bytes_per_second: float
    link_bytes_per_second: float


H100 = Device("H100 SXM", 989e12, 3.35e12, 450e9)


@dataclass(frozen=True)
class StepCost:
    """One step of a batch in which all pairs are valid and `order_fraction` of the clips have the order task.

    Attributes:
        clips: in the batch.
        flop: operations of convolutions and matrix products, forward and backward.
        bytes: of memory traffic if every module reads its inputs and writes its outputs once, forward and backward.
        parameters: their number.
    """

    clips: int
    flop: float
    bytes: float
    parameters: int

    def seconds_at_least(self, device: Device, devices: int = 1) -> float:
        """Return the roofline bound: the time of arithmetic or memory alone, plus the gradients' all-reduce."""
        one = max(self.flop / device.flops, self.bytes / device.bytes_per_second) / devices
        return one + 2 * (devices - 1) / devices * 4 * self.parameters / device.link_bytes_per_second

    def epochs_hours(self, seconds: float, archive_hours: float, clip_seconds: float, epochs: int) -> float:
        """Return the hours of training on an archive, at `seconds` a step."""
        steps = math.ceil(archive_hours * 3600 / clip_seconds / self.clips) * epochs
        return steps * seconds / 3600


def count_step(settings: PretrainSettings) -> StepCost:
    """Return the cost of one step with these settings, at their precision."""
    clips, groups = settings.optimiser.batch_clips, settings.clips.groups_per_clip
    pixels = settings.model.frame_pixels
    samples = round(settings.clips.speech_seconds * settings.spectrogram.rate_hz)
    model = PretrainModel(settings).to("meta")

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, device="meta")

    batch = (
        empty(clips, groups, 1, pixels, pixels),
        empty(clips, ORDER_FRAMES, 1, pixels, pixels),
        empty(clips, groups, samples),
        empty(clips, groups, samples),
        torch.ones(clips, dtype=torch.bool),
        torch.zeros(clips, dtype=torch.int64, device="meta"),
        torch.arange(clips) < settings.objective.order_fraction * clips,
    )
    moved = _MovedBytes(model, 2 if settings.run.precision == "bfloat16" else 4)
    with (counter := count_flop()):
        model(*batch).total.backward()
    parameters = sum(p.numel() for p in model.parameters())
    return StepCost(clips, float(counter.get_total_flops()), moved.total * PASSES, parameters)


def count_flop() -> FlopCounterMode:
    """Return torch's counter of the operations of convolutions and matrix products inside of its block."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _count_gradients})


def _count_gradients(
    grad: torch.Size, maps: torch.Size, weight: torch.Size, *arguments: Any, out_shape: Any = None
) -> int:
    """Return the operations of a convolution's gradients: each asked for takes as many as the forward pass.

    Of a grouped convolution torch counts those of the weights as if there were one group.
    """
    transposed, output_mask = arguments[4], arguments[7]
    outputs = math.prod(maps if transposed else grad)
    return 2 * outputs * math.prod(weight[1:]) * int(sum(output_mask[:2]))


class _MovedBytes:
    """Adds up the sizes of the innermost modules' inputs and outputs."""

    def __init__(self, module: nn.Module, item_bytes: int) -> None:
        self.total = 0.0
        self._item_bytes = item_bytes
        for child in module.modules():
            if not list(child.children()):
                child.register_forward_hook(self._hook)

    def _hook(self, _module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        tensors = [value for value in (*inputs, output) if isinstance(value, Tensor)]
        self.total += self._item_bytes * sum(tensor.numel() for tensor in tensors)
