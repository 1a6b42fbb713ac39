"""The CUDA contrastive loss, executed on the CPU, against its equation in float64."""

import math
from pathlib import Path

import numpy as np
import pytest

from .emulate import Build, EmulationError, Out, Result, available, build, run, schedules

pytestmark = pytest.mark.skipif(not available(), reason="no C++ compiler here")

FORMS = ("eq2", "ntxent")
GRADIENTS = ("anchors_grad", "positives_grad", "hard_negatives_grad", "candidates_grad")
TILE_ROWS = 128


def program(kind: Build = Build.PLAIN) -> Path:
    return build(kind, "contrastive_loss")


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round to nearest, ties to even; the bits, as uint16."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def widened(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return values.astype(np.float64)


class Case:
    """Inputs of both passes, and what the equation says of them."""

    def __init__(
        self,
        n: int,
        m: int,
        d: int,
        dtype: str = "float32",
        temperature: float = 1.0,
        margin_floor: float = 1.0,
        form: str = "eq2",
        scale: float = 1.7,
        seed: int = 0,
    ):
        random = np.random.default_rng(seed)
        self.n, self.m, self.d, self.dtype = n, m, d, dtype
        self.temperature, self.margin_floor, self.form = temperature, margin_floor, form
        self.v, self.s, self.h, self.c = (
            self.stored(scale * rows / np.linalg.norm(rows, axis=1, keepdims=True))
            for rows in (random.standard_normal((count, d)) for count in (n, n, n, m))
        )
        self.self_index = random.integers(-1, m, n) if m > 1 else np.full(n, -1)
        self.losses_grad = random.uniform(0.5, 1.5, n).astype(np.float32)

    def stored(self, values: np.ndarray) -> np.ndarray:
        return to_bfloat16(values) if self.dtype == "bfloat16" else values.astype(np.float32)

    def expected(self) -> dict[str, np.ndarray]:
        v, s, h, c = map(widened, (self.v, self.s, self.h, self.c))
        a = (v * s).sum(1) / self.temperature
        margin = a - (v * h).sum(1) / self.temperature
        logits = v @ c.T / self.temperature
        rows = np.flatnonzero(self.self_index >= 0)
        logits[rows, self.self_index[rows]] = -np.inf
        largest = logits.max(1, keepdims=True)
        logsumexp = np.log(np.exp(logits - largest).sum(1)) + largest[:, 0]
        slope, gap = np.zeros(self.n), np.zeros(self.n)
        if self.form == "eq2":
            touching = np.maximum(margin, self.margin_floor)
            slope = 1 / np.expm1(touching)
            gap = np.log(-np.expm1(-touching)) + (margin - touching) * slope
        weight = self.losses_grad.astype(np.float64) / self.temperature
        softmax = weight[:, None] * np.exp(logits - logsumexp[:, None])
        pull, push = -(weight * (1 + slope))[:, None], (weight * slope)[:, None]
        return {
            "losses": logsumexp - a - gap,
            "logsumexp": logsumexp,
            "anchors_grad": softmax @ c + pull * s + push * h,
            "positives_grad": pull * v,
            "hard_negatives_grad": push * v,
            "candidates_grad": softmax.T @ v,
        }

    def numbers(self) -> dict:
        names = ("rows", "columns", "width", "temperature", "margin_floor", "form")
        values = (self.n, self.m, self.d, self.temperature, self.margin_floor, FORMS.index(self.form))
        return dict(zip(names, values, strict=True))

    def inputs(self) -> dict:
        names = ("anchors", "positives", "hard_negatives", "candidates", "self_index")
        return {**dict(zip(names, (self.v, self.s, self.h, self.c, self.self_index), strict=True)), **self.numbers()}

    def forward(self, kind: Build = Build.PLAIN, under: list[str] | None = None, **options) -> Result:
        workspace = Out((workspace_bytes(self.n, self.m, self.d, self.dtype)[0],), np.uint8)
        outputs = {"losses": Out((self.n,)), "logsumexp": Out((self.n,)), "workspace": workspace}
        return run(program(kind), f"forward_{self.dtype}", {**self.inputs(), **outputs}, under or ["2:1"], **options)

    def backward(
        self, logsumexp: np.ndarray, kind: Build = Build.PLAIN, under: list[str] | None = None, **options
    ) -> Result:
        workspace = Out((workspace_bytes(self.n, self.m, self.d, self.dtype)[1],), np.uint8)
        like = dict(zip(GRADIENTS, (self.v, self.s, self.h, self.c), strict=True))
        outputs = {name: Out(array.shape, array.dtype) for name, array in like.items()}
        given = {"logsumexp": logsumexp, "losses_grad": self.losses_grad}
        arguments = {**self.inputs(), **given, **outputs, "workspace": workspace}
        return run(program(kind), f"backward_{self.dtype}", arguments, under or ["2:1"], **options)

    def check(self, kind: Build = Build.PLAIN, under: list[str] | None = None) -> None:
        """Both passes, each against the equation."""
        expected, forward = self.expected(), self.forward(kind, under)
        for name in ("losses", "logsumexp"):
            np.testing.assert_allclose(forward[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=name)
        backward = self.backward(forward["logsumexp"], kind, under)
        # A gradient comes back in the inputs' dtype: bfloat16 keeps 8 bits.
        tolerance = 1e-5 if self.dtype == "float32" else 2**-8
        for name in GRADIENTS:
            error = np.abs(widened(backward[name]) - expected[name])
            assert error.max(initial=0) <= tolerance * max(np.abs(expected[name]).max(initial=0), 1e-6), name
        assert forward.counts["launches"] == backward.counts["launches"] == 1, "one launch per pass"


def workspace_bytes(n: int, m: int, d: int, dtype: str) -> tuple[int, int]:
    numbers = {"rows": n, "columns": m, "width": d, "bytes": Out((2,), np.int64)}
    forward, backward = run(program(), f"workspace_bytes_{dtype}", numbers)["bytes"]
    return int(forward), int(backward)
