"""Predicted times of the CUDA kernels: bytes, operations, limits, occupancy.

    python -m benchmarks.roofline            print the tables
    python -m benchmarks.roofline --write    and put them into docs/kernels.md

Registers and occupancy come from the machine code of libusvs_ops.so (tests/simt/machine_code.py); everything else is
computed from sizes and from the devices' published figures. Nothing here is measured.
"""

import argparse
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.simt.machine_code import Budget, Kernel, kernels, occupancy
from usvs import _C
from usvs.ops._library import LIBRARY

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "kernels.md"
BEGIN, END = "<!-- written by benchmarks/roofline.py -->", "<!-- until here -->"
# 33 of the 52 TFLOP/s that three TF32 products allow on an A100 (Ootomo and Yokota, 2022): the fraction of
# its limit that a good kernel of this kind reaches.
REACHED = 0.63
# Lanes a clock and multiprocessor, bytes likewise.
SPECIAL_FUNCTIONS, SHARED_BYTES, SCHEDULERS = 16, 128, 4
THREADS = 256  # of a block
COLUMNS = ["device", "GFLOP", "MB", "memory", "tensor", "shared", "issue", "float32", "registers", "blocks", "limit"]
COLUMNS += ["prediction"]


@dataclass(frozen=True)
class Device:
    """Published figures; `mma` is the share of the tensor cores' peak that mma.sync reaches there."""

    name: str
    architecture: str
    multiprocessors: int
    clock_hz: float
    memory_bytes_per_second: float
    float32_flops: float
    tensor_flops: dict[str, float]
    mma: float


DEVICES = [
    Device("A100 SXM 80 GB", "sm_80", 108, 1.41e9, 2.04e12, 19.5e12, {"float32": 156e12, "bfloat16": 312e12}, 1),
    # Luo et al. (2024, arXiv:2402.13499): mma.sync gets about 63 % of what wgmma gets.
    Device("H100 SXM", "sm_90", 132, 1.755e9, 3.35e12, 66.9e12, {"float32": 494e12, "bfloat16": 989e12}, 0.63),
]


@dataclass(frozen=True)
class Work:
    """What a launch has to do."""

    label: str
    kernel: str  # part of its mangled name
    dynamic_bytes: int
    flops: float  # that the mathematics asks for
    memory_bytes: float
    special_functions: float
    tensor_flops: float = 0  # that the tensor cores execute
    float32_flops: float = 0  # that ordinary instructions execute
    instead_flops: float = 0  # that they would execute in the tensor cores' place
    shared_bytes: float = 0
    issued: float = 0  # warp instructions of the inner loops, counted by hand in the source
    dtype: str = "float32"


def loss_work(n: int, m: int, d: int, dtype: str) -> Iterator[Work]:
    """The contrastive loss: n anchors, m candidates, width d, one slice.

    A product is n m d multiply-adds. float32 takes three TF32 products for one. Backward computes the logits twice and
    sums twice; in bfloat16 weights are in two parts.
    """
    size, products = (4, 3) if dtype == "float32" else (2, 1)
    product, mangled = 2.0 * n * m * d, "If" if dtype == "float32" else "INS_8BFloat16"
    mma_flops = 16 * 8 * (8 if dtype == "float32" else 16) * 2
    logits = product * products
    sums = product * (3 if dtype == "float32" else 2)
    # To one mma: bytes from shared memory; instructions beside it (splitting a value takes 3, then loads, and adding a
    # short sum to the long one).
    shared_logits, shared_sums = (128, 256 / 3) if dtype == "float32" else (384, 128)
    beside_logits, beside_sums = (4.6, 4.0) if dtype == "float32" else (2.75, 2.25)
    tiles_bytes = (128 + 64) * (128 + 16 // size) * size
    workspace = _C.contrastive_loss_workspace_bytes(n, m, d, dtype)
    for name, count_logits, count_sums in (("forward", 1, 0), ("backward", 2, 2)):
        tensor = count_logits * logits + count_sums * sums
        mmas = (count_logits * logits / mma_flops, count_sums * sums / mma_flops)
        rows_bytes = size * d * (3 * n + m) * (1 if name == "forward" else 2)
        yield Work(
            label=f"loss {name}, {dtype}, n = {n:,}, M = {m:,}, d = {d}",
            kernel=f"contrastive_loss_{name}_kernel{mangled}",
            dynamic_bytes=tiles_bytes if name == "forward" else max(tiles_bytes, 128 * 132 * 4),
            flops=product if name == "forward" else 3 * product,
            memory_bytes=rows_bytes + 12 * n + 2 * workspace[name],  # parts of sums are written and read
            special_functions=n * m * count_logits,
            tensor_flops=tensor,
            instead_flops=product * (count_logits + count_sums),
            shared_bytes=mmas[0] * shared_logits + mmas[1] * shared_sums,
            issued=mmas[0] * (1 + beside_logits) + mmas[1] * (1 + beside_sums) + n * m * count_logits * 8 / 32,
            dtype=dtype,
        )


def spectrogram_work(clips: int) -> Iterator[Work]:
    """The log-spectrogram at the paper's settings: 14,400 samples, 121 frames of 512 points, 256 x 256 out.

    A real transform of N points is 2.5 N log2 N operations. Neighbouring tiles of columns share a frame, which each
    makes for itself: 128 for 121.
    """
    frames, bands, columns, samples, window = 128, 256, 256, 14_400, 240
    transform = 2.5 * 512 * 9 + window + 6 * bands
    flops = clips * (frames * transform + 3 * bands * columns)
    yield Work(
        label=f"log-spectrogram forward, {clips:,} clips",
        kernel="log_spectrogram_forward_kernelILi512E",
        dynamic_bytes=8 * (288 * 8) + 4 * (32 * 257) + 4 * window,
        flops=flops,
        memory_bytes=clips * 4.0 * (samples + bands * columns),
        special_functions=clips * frames * bands,
        float32_flops=flops,
        shared_bytes=clips * 4.0 * (frames * (6 * 512 + bands) + 2 * bands * columns),
    )


def limits(work: Work, device: Device) -> dict[str, float]:
    """Seconds that each part of the device needs at least."""
    clocks = device.multiprocessors * device.clock_hz
    return {
        "tensor cores": work.tensor_flops / (device.tensor_flops[work.dtype] * device.mma),
        "float32": work.float32_flops / device.float32_flops,
        "memory": work.memory_bytes / device.memory_bytes_per_second,
        "shared memory": work.shared_bytes / (SHARED_BYTES * clocks),
        "special functions": work.special_functions / (SPECIAL_FUNCTIONS * clocks),
        "issue": work.issued / (SCHEDULERS * clocks),
    }


def row(work: Work, device: Device, kernel: Kernel) -> str:
    at_least = limits(work, device)
    bound = max(at_least, key=lambda name: at_least[name])
    blocks = occupancy(kernel, Budget(THREADS, work.dynamic_bytes, kernel.registers, {}))
    cells = [
        device.name,
        f"{work.flops / 1e9:,.1f}",
        f"{work.memory_bytes / 1e6:,.1f}",
        *(f"{1e3 * at_least[name]:.3g}" for name in ("memory", "tensor cores", "shared memory", "issue")),
        f"{1e3 * (work.instead_flops + work.float32_flops) / device.float32_flops:.3g}",
        f"{kernel.registers}",
        f"{blocks} ({blocks * THREADS // 32} warps)",
        f"**{1e3 * at_least[bound]:.3g}**, {bound}",
        f"{1e3 * at_least[bound] / REACHED:.3g}",
    ]
    return "| " + " | ".join(cells) + " |"


def tables(works: list[Work], library: Path) -> str:
    lines = []
    for work in works:
        lines += [f"\n{work.label}\n"]
        lines += [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
        for device in DEVICES:
            named = [kernel for name, kernel in kernels(library, device.architecture).items() if work.kernel in name]
            if len(named) != 1:
                raise SystemExit(f"roofline: {library.name} has {len(named)} kernels {work.kernel}; expected one")
            lines += [row(work, device, named[0])]
    return "\n".join(lines)


def revision() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes, operations, limits and predictions of the CUDA kernels.")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/kernels.md")
    write = parser.parse_args().write
    works = [
        *loss_work(8192, 24_576, 128, "float32"),
        *loss_work(8192, 24_576, 128, "bfloat16"),
        *spectrogram_work(256),
    ]
    text = f"\nRevision {revision()}; times in ms.\n{tables(works, LIBRARY)}\n\n"
    print(text)
    if write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        DOCUMENT.write_text(before + BEGIN + "\n" + text + END + after)


if __name__ == "__main__":
    main()
