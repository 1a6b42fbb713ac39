"""Limits and predicted times of the CUDA kernels: instructions from the machine code, bytes and operations from sizes.

    python -m benchmarks.roofline            compute, print, and write docs/results/kernel_limits.json
    python -m benchmarks.roofline --write    the same, and put the tables into docs/kernels.md
    python -m benchmarks.roofline --library OTHER.so --revision NAME --out FILE    of another build

Instructions, tensor-core products, bytes of shared memory and special functions are counted along the path of a full
tile (benchmarks/executed_instructions.py); registers and occupancy are read from the same library. Bytes of memory
follow from sizes, peaks from the devices' published figures. Nothing here is measured.
"""

import argparse
import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch  # noqa: F401  (loads the libraries that usvs._C is linked with)

from benchmarks.executed_instructions import (
    LOGITS_COLUMNS,
    LOSS_KERNELS,
    PANEL_KERNELS,
    SLICE,
    TILE_COLUMNS,
    TILE_ROWS,
    WARPS,
    WIDE_COLUMNS,
    WIDE_FORWARD,
    WIDE_SLICE,
    Executed,
    loss_tile,
    spectrogram_backward_round,
    spectrogram_forward_block,
)
from tests.simt.machine_code import Budget, kernels, occupancy
from usvs import _C
from usvs.ops._library import LIBRARY

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "kernels.md"
RESULTS = ROOT / "docs" / "results" / "kernel_limits.json"
# Before tiles of 64 x 48 in bfloat16 above d = 128.
EARLIER = [ROOT / "docs" / "results" / f"kernel_limits_{revision}.json" for revision in ("1b1c3cc",)]
BEGIN, END = "<!-- written by benchmarks/roofline.py -->", "<!-- until here -->"
# 33 of the 52 TFLOP/s that three TF32 products allow on an A100 (Ootomo and Yokota, 2022): the fraction of
# its limit that a good kernel of this kind reaches.
REACHED = 0.63
# Lanes a clock and multiprocessor, bytes likewise.
SPECIAL_FUNCTIONS, SHARED_BYTES, SCHEDULERS = 16, 128, 4
L2_BYTES = 5120  # a clock, of the device (NVIDIA A100 architecture, 2020); none is published for Hopper: the same
THREADS = 32 * WARPS  # of a block
ROWS, CANDIDATES = 8192, 24_576
WIDTHS = (128, 512, 1024)
CLIPS = 256


@dataclass(frozen=True)
class Device:
    """Published figures; `mma` is the share of the tensor cores' peak that mma.sync reaches there."""

    name: str
    architecture: str
    multiprocessors: int
    clock_hz: float
    memory_bytes_per_second: float
    tensor_flops: dict[str, float]
    mma: float


HOPPER_FLOPS = {"float32": 494e12, "bfloat16": 989e12}
DEVICES = [
    Device("A100 SXM 80 GB", "sm_80", 108, 1.41e9, 2.04e12, {"float32": 156e12, "bfloat16": 312e12}, 1),
    # Luo et al. (2024, arXiv:2402.13499): mma.sync gets about 63 % of what wgmma gets.
    Device("H100 SXM", "sm_90", 132, 1.755e9, 3.35e12, HOPPER_FLOPS, 0.63),
    Device("H200 SXM", "sm_90", 132, 1.755e9, 4.8e12, HOPPER_FLOPS, 0.63),
]


@dataclass(frozen=True)
class Limits:
    """What a launch needs at least on a device, in seconds, and what that is computed from."""

    kernel: str
    dtype: str
    width: int  # 0 for the log-spectrogram
    device: str
    instructions: float  # of a warp for one tile
    flops: float  # that the mathematics asks for
    memory_bytes: float
    registers: int
    blocks: int  # on a multiprocessor
    seconds: dict[str, float]
    work: float = 0  # of the instructions: arithmetic and accesses to memory; 0 in files from before it was counted

    @property
    def bound(self) -> str:
        """The largest limit."""
        return max(self.seconds, key=lambda name: self.seconds[name])

    @property
    def prediction(self) -> float:
        """The largest limit, divided by the fraction of it that such kernels reach."""
        return self.seconds[self.bound] / REACHED


@dataclass(frozen=True)
class EagerTime:
    """The least that eager torch with bfloat16 logits needs (`loss_without_upcast` of contrastive_loss_peers.py)."""

    kernel: str
    width: int
    device: str
    products_seconds: float  # at the tensor cores' peak, as no matrix product reaches it
    passes_seconds: float  # over the n x M logits, at the memory's peak

    @property
    def seconds(self) -> float:
        """Products and passes are kernels of their own, one after the other."""
        return self.products_seconds + self.passes_seconds


# How often logits are read or written, as the profiler lists the kernels; what the products themselves read and write
# is left out. Forward: scatter 2, amax 1, sub 2, exp_ 2, sum 1. Backward: sub 2, exp 2, mul 2, scatter 2.
EAGER_PASSES = {"forward": 8, "backward": 8}


def eager_times() -> Iterator[EagerTime]:
    for kernel, passes in EAGER_PASSES.items():
        for width in WIDTHS:
            product = 2.0 * ROWS * CANDIDATES * width * (1 if kernel == "forward" else 2)
            for device in DEVICES:
                seconds = passes * 2.0 * ROWS * CANDIDATES / device.memory_bytes_per_second
                yield EagerTime(kernel, width, device.name, product / device.tensor_flops["bfloat16"], seconds)


def limits_of(work: Executed, warps: float, memory_bytes: float, dtype: str, device: Device) -> dict[str, float]:
    """Return seconds for each part of the device; `work` is that of one warp, of `warps`."""
    clocks = device.multiprocessors * device.clock_hz
    flops = 16 * 8 * (8 if dtype == "float32" else 16) * 2  # of one mma.sync
    return {
        "issue": warps * work.instructions / (SCHEDULERS * clocks),
        "tensor cores": warps * work.tensor * flops / (device.tensor_flops[dtype] * device.mma),
        "shared memory": warps * work.shared_bytes / (SHARED_BYTES * clocks),
        "L2 cache": warps * work.copied_bytes / (L2_BYTES * device.clock_hz),
        "special functions": warps * 32 * work.special / (SPECIAL_FUNCTIONS * clocks),
        "memory": memory_bytes / device.memory_bytes_per_second,
    }


def limits_of_a_kernel(
    kernel: tuple[str, str, str], work: Executed, warps: float, sizes: tuple[int, float, float, int], device: Device,
    library: Path,
) -> Limits:  # fmt: skip
    name, dtype, mangled = kernel
    width, flops, memory_bytes, dynamic_bytes = sizes
    (code,) = [code for key, code in kernels(library, device.architecture).items() if mangled in key]
    blocks = occupancy(code, Budget(THREADS, dynamic_bytes, code.registers, {}))
    seconds = limits_of(work, warps, memory_bytes, dtype, device)
    counts = code.registers, blocks, seconds, work.work
    return Limits(name, dtype, width, device.name, work.instructions, flops, memory_bytes, *counts)


def loss_limits(library: Path) -> Iterator[Limits]:
    """The contrastive loss. Whole tiles: the ends of a block (partial sums, results) are left out."""
    for (name, dtype), begin in LOSS_KERNELS.items():
        value_bytes = 4 if dtype == "float32" else 2
        columns = LOGITS_COLUMNS[dtype] if name == "forward" else TILE_COLUMNS
        tiles_bytes = (TILE_ROWS + 2 * columns) * (SLICE + 16 // value_bytes) * value_bytes
        dynamic_bytes = tiles_bytes if name == "forward" else max(tiles_bytes, TILE_ROWS * (SLICE + 4) * 4)
        for width in WIDTHS:
            product = 2.0 * ROWS * CANDIDATES * width
            slices = -(-width // SLICE)
            in_panels = name == "backward" and slices > 1
            is_wide = name == "forward" and dtype == "bfloat16" and slices > 1
            if is_wide:
                dynamic_bytes = 2 * (TILE_ROWS + 4 * WIDE_COLUMNS) * (WIDE_SLICE + 8) * value_bytes
            mangled = WIDE_FORWARD if is_wide else begin + (f"Lb{int(slices == 1)}E" if name == "forward" else "E")
            if in_panels:
                mangled = PANEL_KERNELS["weighted_sums", 1, dtype]
                dynamic_bytes = max(2 * (TILE_COLUMNS * (SLICE + 16 // value_bytes) * value_bytes + 16_384), 67_584)
            workspace = _C.contrastive_loss_workspace_bytes(ROWS, CANDIDATES, width, dtype)[name]
            embeddings = value_bytes * width * (3 * ROWS + CANDIDATES) * (1 if name == "forward" else 2)
            memory_bytes: float = embeddings + 12 * ROWS + 2 * workspace  # parts of sums are written and read
            if in_panels:  # weights of both sides: written once, read for every slice, as if no cache kept them
                memory_bytes += 2 * 4.0 * ROWS * CANDIDATES * (1 + slices)
            sizes = width, product * (1 if name == "forward" else 3), memory_bytes, dynamic_bytes
            for device in DEVICES:
                work = loss_tile(library, device.architecture, name, dtype, width)
                warps = ROWS * CANDIDATES / (16 * 32)
                yield limits_of_a_kernel((name, dtype, mangled), work, warps, sizes, device, library)


def spectrogram_limits(library: Path) -> Iterator[Limits]:
    """The log-spectrogram at the paper's settings: 14,400 samples, 121 frames of 512 points, 256 x 256 out."""
    transforms = 121 * (2.5 * 512 * 9 + 240 + 6 * 256)
    memory_bytes = CLIPS * 4.0 * (14_400 + 256 * 256)
    for device in DEVICES:
        work = spectrogram_forward_block(library, device.architecture)
        kernel = "log-spectrogram forward", "float32", "log_spectrogram_forward_kernelILi512E"
        sizes = 0, CLIPS * (transforms + 3 * 256 * 256), memory_bytes, 52_224
        yield limits_of_a_kernel(kernel, work, CLIPS * 4 * WARPS, sizes, device, library)
    # Frames are transformed, and transformed back: 19 of each of seven tiles in three rounds, and one of the eighth's.
    for device in DEVICES:
        work = spectrogram_backward_round(library, device.architecture)
        kernel = "log-spectrogram backward", "float32", "log_spectrogram_backward_kernelILi512E"
        sizes = 0, CLIPS * 2 * (transforms + 3 * 256 * 256), memory_bytes + CLIPS * 4.0 * 14_400, 35_840
        yield limits_of_a_kernel(kernel, work, CLIPS * 22 * WARPS, sizes, device, library)


def table(limits: list[Limits], earlier: dict[tuple[str, str, int, str], float]) -> str:
    """Return a table: times in ms, and instructions of a warp for a tile, now and before."""
    columns = ["device", "d", "GFLOP", "instructions", "work", *limits[0].seconds, "registers", "warps"]
    columns += ["limit", "prediction"]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for each in limits:
        before = earlier.get((each.kernel, each.dtype, each.width, each.device))
        cells = [
            each.device,
            f"{each.width or '-'}",
            f"{each.flops / 1e9:,.1f}",
            f"{each.instructions:,.0f}" + (f" (before: {before:,.0f})" if before else ""),
            f"{each.work:,.0f}",
            *(f"{1e3 * seconds:.3g}" for seconds in each.seconds.values()),
            f"{each.registers}",
            f"{each.blocks * WARPS}",
            f"**{1e3 * each.seconds[each.bound]:.3g}**, {each.bound}",
            f"{1e3 * each.prediction:.3g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tables(results: dict[str, object], earlier: list[dict[str, object]]) -> str:
    """Return the tables of the document, from the results files."""
    limits = [Limits(**each) for each in results["limits"]]  # type: ignore[attr-defined]
    before = [Limits(**each) for file in earlier for each in file["limits"]]  # type: ignore[attr-defined]
    counts = {(each.kernel, each.dtype, each.width, each.device): each.instructions for each in before}
    text = f"Revision {results['revision']}"
    text += f"; before: revision {' and '.join(str(file['revision']) for file in earlier)}.\n" if earlier else ".\n"
    for kernel, dtype in dict.fromkeys((each.kernel, each.dtype) for each in limits):
        rows = [each for each in limits if (each.kernel, each.dtype) == (kernel, dtype)]
        sizes = f"n = {ROWS:,}, M = {CANDIDATES:,}" if rows[0].width else f"{CLIPS} clips"
        title = f"loss {kernel}, {dtype}" if rows[0].width else kernel
        text += f"\n{title}, {sizes}; times in ms\n\n{table(rows, counts)}\n"
    if eager := [EagerTime(**each) for each in results.get("eager", [])]:  # type: ignore[attr-defined]
        title = "loss, bfloat16: the least time of eager torch with bfloat16 logits beside the predictions"
        text += f"\n{title}; times in ms\n\n{eager_table(eager, limits)}\n"
    return text


def eager_table(eager: list[EagerTime], limits: list[Limits]) -> str:
    """Return a table of the predictions in bfloat16 beside the least times of eager torch, in ms."""
    columns = ["pass", "device", "d", "eager: products", "passes over logits", "sum", "usvs", "eager / usvs"]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    predictions = {(x.kernel, x.width, x.device): x.prediction for x in limits if x.dtype == "bfloat16"}
    for each in eager:
        ours = predictions[each.kernel, each.width, each.device]
        times = (each.products_seconds, each.passes_seconds, each.seconds, ours)
        cells = [each.kernel, each.device, f"{each.width}", *(f"{1e3 * time:.3g}" for time in times)]
        lines.append(f"| {' | '.join(cells)} | {each.seconds / ours:.2f} |")
    return "\n".join(lines)


def revision() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/kernels.md")
    parser.add_argument("--library", type=Path, default=LIBRARY, help="libusvs_ops.so; default: the built one")
    parser.add_argument("--revision", default=revision(), help="of the library; default: that of the sources")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file; default: %(default)s")
    parser.add_argument("--spectrogram-only", action="store_true", help="without the loss")
    options = parser.parse_args()
    limits = [] if options.spectrogram_only else [*loss_limits(options.library)]
    limits += spectrogram_limits(options.library)
    results = {"revision": options.revision, "limits": [asdict(each) for each in limits]}
    if not options.spectrogram_only:
        results["eager"] = [asdict(each) for each in eager_times()]
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    earlier = [json.loads(file.read_text()) for file in EARLIER] if options.out == RESULTS else []
    text = f"\n{tables(json.loads(options.out.read_text()), earlier)}\n"
    print(text)
    if options.write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        DOCUMENT.write_text(before + BEGIN + "\n" + text + END + after)


if __name__ == "__main__":
    main()
