"""The optimiser and its schedule (section 2.4); the schedule is a pure function of the step, so it has no state."""

import math

import torch
from torch import Tensor, nn

from usvs.training.settings import OptimiserSettings

WARM_UP_FRACTION = 0.3  # the defaults of torch.optim.lr_scheduler.OneCycleLR
START_DIVISOR = 25.0
END_DIVISOR = 25.0 * 1e4


def make_optimiser(module: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Return the optimiser over the module's parameters.

    SGD decays every parameter, as in the paper; AdamW leaves out biases and normalisation, as is common.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if settings.kind == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            fused=True,
        )
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate, fused=True)


def learning_rate(step: int, total_steps: int, steps_per_epoch: int, settings: OptimiserSettings) -> float:
    """Return the learning rate of update number `step`, counted from 0.

    ``step`` is the paper's: divided by ten every `step_epochs` epochs. ``one_cycle`` rises and falls by half cosines
    (Smith and Topin, 2018, in the form of torch's OneCycleLR).
    """
    if settings.schedule == "step":
        return settings.learning_rate / 10.0 ** (step // steps_per_epoch // settings.step_epochs)
    peak_step = max(WARM_UP_FRACTION * total_steps - 1.0, 1e-9)
    last_step = total_steps - 1.0
    peak = settings.learning_rate
    if step <= peak_step:
        return _half_cosine(peak / START_DIVISOR, peak, step / peak_step)
    return _half_cosine(peak, peak / END_DIVISOR, min((step - peak_step) / (last_step - peak_step), 1.0))


def _half_cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * fraction))


def optimiser_tensors(optimiser: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Return the optimiser's state under names ``parameter/quantity``, for example ``video.conv1.weight/exp_avg``."""
    return {
        f"{name}/{quantity}": value
        for name, parameter in module.named_parameters()
        for quantity, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimiser_tensors(optimiser: torch.optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load what `optimiser_tensors` returned.

    Raises:
        KeyError: when a name belongs to no parameter of the module.
    """
    parameters = dict(module.named_parameters())
    optimiser.state.clear()
    for name, value in tensors.items():
        owner, _, quantity = name.rpartition("/")
        parameter = parameters[owner]
        if value.shape == parameter.shape:
            # Fused kernels index the state and the parameter in memory order, so both need the same strides.
            value = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        elif parameter.device.type != "cpu":
            value = value.to(parameter.device)
        optimiser.state[parameter][quantity] = value
