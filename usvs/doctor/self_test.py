"""Every operation once, compared with its plain-torch reference: seconds, on random input that is always the same."""

from collections.abc import Callable, Iterator
from typing import Any

from usvs.doctor.checks import Check

Compared = tuple[Any, Any]  # what an operation returned, and its reference


def operation_checks(device: str = "cpu") -> Iterator[Check]:
    """Yield a check for each operation.

    Args:
        device: ``cpu``, or ``cuda`` for the operations that run there.
    """
    for name, limit, compare in comparisons(device):
        title = name if device == "cpu" else f"{name} on {device}"
        try:
            difference = relative_difference(*compare())
        except Exception as error:  # whatever is wrong with a build belongs into its line
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            yield Check("operation", title, "failed", f"expected a result, got {type(error).__name__}: {reason}")
            continue
        text = f"difference from the reference {difference:.1e} of the largest value (limit {limit:.0e})"
        yield Check("operation", title, "ok" if difference <= limit else "failed", text)


def relative_difference(found: Any, expected: Any) -> float:
    """Return the largest difference over the largest expected value; infinite for other shapes or no number."""
    if found.shape != expected.shape:
        return float("inf")
    difference = float((found.double().cpu() - expected.double().cpu()).abs().max())
    largest = float(expected.double().abs().max())
    return difference / max(largest, 1e-12) if difference == difference else float("inf")


def comparisons(device: str) -> list[tuple[str, float, Callable[[], Compared]]]:
    """Return name, limit and comparison of each operation on a device.

    The limits are some ten times the rounding of float32, and 0 where the operation is exact.
    """
    import torch

    from usvs import ops

    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Any:
        return torch.rand(*shape, generator=generator)

    waveform, frames = uniform(2, 3000) - 0.5, (255 * uniform(2, 80, 80)).to(torch.uint8)
    embeddings = [torch.nn.functional.normalize(uniform(rows, 32) - 0.5, dim=1) for rows in (8, 8, 8, 24)]
    prediction, truth, energy = uniform(2, 900), uniform(2, 900), uniform(2, 100).double()
    places = (torch.tensor([[0, 3], [5, 1]]), torch.tensor([False, True]), uniform(2), 32, 150, 0, 4.0, 1.0)
    kinds = ("kl", "similarity", "correlation")
    features, gate = uniform(3, 2, 8, 6, 6), (uniform(4, 8), uniform(4), uniform(8, 4), uniform(8))

    def loss(function: Callable[..., Any], rows: list[Any]) -> Any:
        inputs = [one.clone().requires_grad_() for one in rows]
        losses = function(*inputs, torch.arange(8, device=rows[0].device), temperature=0.5)
        losses.sum().backward()
        return torch.cat([losses.detach(), *(one.grad.flatten() for one in inputs)])

    def losses_of(function: Callable[..., Any], reference: Callable[..., Any]) -> Compared:
        found = loss(function, [one.to(device) for one in embeddings])
        return found, loss(reference, [one.double() for one in embeddings])

    def statistics(function: Callable[..., Any]) -> Any:
        return torch.cat([one.double() for one in function(prediction, truth, truth > 0.9, kinds, 1e-7)], dim=1)

    def block(function: Callable[..., Any], dtype: torch.dtype) -> Any:
        maps, residual = (one.to(dtype).requires_grad_() for one in (features[0], features[1]))
        squeeze = [one.to(dtype) for one in gate]
        ones = torch.ones(8, dtype=dtype)
        result = function(maps, ones, ones, None, None, True, 0.1, 1e-5, True, residual - 1.0, squeeze)
        (result * features[2]).sum().backward()
        return torch.cat([one.flatten() for one in (result.detach(), maps.grad, residual.grad)])

    everywhere: list[tuple[str, float, Callable[[], Compared]]] = [
        (
            "log_spectrogram",
            1e-5,
            lambda: (
                ops.log_spectrogram(waveform.to(device)).exp(),
                ops.log_spectrogram_reference(waveform.double()).exp(),
            ),
        ),
        ("contrastive_loss", 1e-5, lambda: losses_of(ops.contrastive_loss, ops.contrastive_loss_reference)),
        (
            "ring_contrastive_loss",
            1e-5,
            lambda: losses_of(ops.ring_contrastive_loss, ops.ring_contrastive_loss_reference),
        ),
    ]
    if device != "cpu":
        return everywhere
    return [
        *everywhere,
        (
            "batch_norm_act",
            1e-5,
            lambda: (
                block(ops.batch_norm_act, torch.float32),
                block(ops.batch_norm_act_reference, torch.float64),
            ),
        ),
        (
            "augment_frames",
            0.0,
            lambda: (ops.augment_frames(frames, *places), ops.augment_frames_reference(frames, *places)),
        ),
        (
            "frame_energy",
            1e-12,
            lambda: (ops.frame_energy(waveform, 240, 0.01), ops.frame_energy_reference(waveform, 240, 0.01)),
        ),
        ("energy_threshold", 1e-12, lambda: (ops.energy_threshold(energy), ops.energy_threshold_reference(energy))),
        (
            "pair_score",
            1e-5,
            lambda: (
                ops.pair_score(prediction, truth, "kl", 1e-7),
                ops.pair_score_reference(prediction, truth, "kl", 1e-7),
            ),
        ),
        (
            "fixation_statistics",
            1e-12,
            lambda: (
                ops.fixation_statistics(prediction, truth > 0.9, True),
                ops.fixation_statistics_reference(prediction, truth > 0.9, True),
            ),
        ),
        (
            "saliency_statistics",
            1e-5,
            lambda: (statistics(ops.saliency_statistics), statistics(ops.saliency_statistics_reference)),
        ),
    ]
