"""Inputs of the contrastive loss, and its gradients."""

import torch
import torch.nn.functional as F
from torch import Tensor


def embeddings(n: int, m: int, d: int, dtype: torch.dtype, seed: int = 0, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(n, d)] * 3 + [(m, d)]
    return [
        F.normalize(torch.randn(*shape, generator=generator), dim=1).mul(scale).to(dtype).requires_grad_()
        for shape in shapes
    ]


def some_index(n: int, m: int) -> Tensor:
    return torch.randint(-1, m, (n,), generator=torch.Generator().manual_seed(5))


def gradients_of(losses: Tensor, tensors: list[Tensor], weights: Tensor) -> list[Tensor]:
    found = torch.autograd.grad((losses * weights.to(losses)).sum(), tensors, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(tensors, found, strict=True)]
