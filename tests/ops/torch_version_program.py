"""Run every op of torch.ops.usvs and print, as JSON, torch's version and a hash of each result.

Started by test_torch_versions.py under several versions of torch, with `usvs` and that torch on PYTHONPATH.
"""

import hashlib
import json

import torch
from torch import Tensor

from usvs import ops
from usvs.ops import saliency_statistics


def digest(*tensors: Tensor) -> str:
    """Return a hash of the tensors' bits."""
    found = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().contiguous().reshape(-1)
        found.update(bytes(flat.view(torch.uint8).tolist()))
    return found.hexdigest()[:16]


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Return numbers in [0, 1) that are the same in every version of torch: no generator of torch is used."""
    count = 1
    for size in shape:
        count *= size
    values = (torch.arange(count, dtype=torch.float64) + 1 + 7919 * seed) * 0.6180339887498949
    return (values - values.floor()).float().reshape(shape)


def contrastive_arguments() -> list[Tensor]:
    """Return anchors, positives, hard negatives and candidates that require gradients."""
    return [(uniform(rows, 16, seed=rows) - 0.5).requires_grad_() for rows in (5, 5, 5, 11)]


def results() -> dict[str, str]:
    """Return the hash of every op's result, gradients included."""
    waveform = (uniform(2, 3000) - 0.5).requires_grad_()
    images = ops.log_spectrogram(waveform)
    (images.square().mean()).backward()
    found = {"log_spectrogram": digest(images, waveform.grad)}
    out = torch.empty(2, 1, 256, 256, dtype=torch.bfloat16)
    offsets = torch.tensor([0, 1000])
    ops.log_spectrogram(waveform.detach()[0], offsets=offsets, length=1500, out=out)
    found["log_spectrogram.out"] = digest(out.view(torch.int16))
    self_index = torch.tensor([0, 3, -1, 7, 10])
    inputs = contrastive_arguments()
    losses = ops.contrastive_loss(*inputs, self_index)
    losses.mean().backward()
    found["contrastive_loss"] = digest(losses, *(tensor.grad for tensor in inputs))
    inputs = contrastive_arguments()
    compiled = torch.jit.script(ops.contrastive_loss)
    (compiled(*inputs, self_index, 0.5, 1.0, "ntxent") * uniform(5)).sum().backward()
    found["contrastive_loss scripted"] = digest(*(tensor.grad for tensor in inputs))
    frames = (255 * uniform(2, 64, 64)).to(torch.uint8)
    corner, flip = torch.tensor([[0, 3], [5, 1]]), torch.tensor([False, True])
    found["augment_frames"] = digest(ops.augment_frames(frames, corner, flip, uniform(2), 32, 150, 0, 4.0, 1.0))
    energy = ops.frame_energy(uniform(2, 4000), 240, 0.01)
    found["frame_energy"] = digest(energy)
    found["energy_threshold"] = digest(ops.energy_threshold(energy))
    prediction, truth = uniform(2, 900), uniform(2, 900, seed=1)
    scores = torch.ops.usvs.saliency_statistics(prediction, truth, truth > 0.9, 15, 1e-7)
    found["saliency_statistics"] = digest(*scores)
    maps, weight = uniform(2, 8, 5, 6).requires_grad_(), uniform(8, seed=2).requires_grad_()
    running = [torch.zeros(8), torch.ones(8)]
    normalised = ops.batch_norm_act(maps, weight, weight - 1.0, *running, True, 0.1, 1e-5, residual=maps - 0.5)
    (normalised * uniform(2, 8, 5, 6, seed=3)).sum().backward()
    found["batch_norm_act"] = digest(normalised, maps.grad, weight.grad, *running)
    refused = torch.tensor([0, 1, 2, 3, 99])
    try:
        ops.contrastive_loss(*contrastive_arguments(), refused)
    except RuntimeError as error:
        found["message"] = str(error).splitlines()[0]
    return found


assert saliency_statistics  # its fake implementations are registered as well
print(json.dumps({"torch": torch.__version__, "results": results()}))
