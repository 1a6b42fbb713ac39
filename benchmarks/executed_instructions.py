"""Instructions that the CUDA kernels execute, counted in the machine code along the path of a full tile.

The main loops of the kernels are found by the instructions in them (tests/simt/machine_path.py). Which loops there are,
and how often they run, follows from the sources: csrc/kernels/contrastive_loss_tiles.cuh and
log_spectrogram_forward.cuh.
"""

import dataclasses
from pathlib import Path

from tests.simt.machine_path import ControlFlow, Instruction, Loop, control_flow
from tests.simt.machine_path import Path as InstructionPath

TILE_ROWS, TILE_COLUMNS, SLICE, WARPS = 128, 32, 128, 8  # contrastive_loss_plan.h
LOSS_KERNELS = {
    (name, dtype): f"contrastive_loss_{name}_kernel{mangled}"
    for name in ("forward", "backward")
    for dtype, mangled in (("float32", "If"), ("bfloat16", "INS_8BFloat16E"))
}
# Of the backward pass of several slices, for anchors and for candidates as rows.
PANEL_KERNELS = {
    (name, rows, dtype): f"contrastive_loss_{name}_kernelILb{rows}E{mangled}"
    for name in ("weights", "weighted_sums")
    for rows in (1, 0)
    for dtype, mangled in (("float32", "f"), ("bfloat16", "NS_8BFloat16E"))
}


@dataclasses.dataclass(frozen=True)
class Executed:
    """What one warp executes: instructions, and what they do."""

    instructions: float
    tensor: float  # HMMA
    special: float  # MUFU
    shared_bytes: float

    def __add__(self, other: "Executed") -> "Executed":
        return Executed(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))

    def times(self, count: float) -> "Executed":
        """Return the same, executed `count` times."""
        return Executed(*(count * each for each in dataclasses.astuple(self)))


def executed(path: InstructionPath) -> Executed:
    return Executed(path.issued, path.count("HMMA"), path.count("MUFU"), path.shared_bytes)


def flow_of(library: Path, architecture: str, kernel: str) -> ControlFlow:
    """Return the control flow of the one kernel with this in its mangled name."""
    found = [flow for name, flow in control_flow(library, architecture).items() if kernel in name]
    if len(found) != 1:
        raise SystemExit(f"{library.name}: expected one kernel {kernel} for {architecture}, got {len(found)}")
    return found[0]


def has(block: list[Instruction], *opcodes: str) -> bool:
    return any(each.opcode.startswith(opcodes) for each in block)


def loss_tile(library: Path, architecture: str, pass_name: str, dtype: str, width: int) -> Executed:
    """Return what a warp executes for a tile of 16 x 32 logits, in the backward pass for one of each kind of block."""
    if pass_name == "backward" and width > SLICE:
        parts = [_panel_tile(library, architecture, rows, dtype, width) for rows in (1, 0)]
        return parts[0] + parts[1]
    one_slice = f"Lb{int(width <= SLICE)}E" if pass_name == "forward" else ""
    flow = flow_of(library, architecture, LOSS_KERNELS[pass_name, dtype] + one_slice)
    main_loops = [loop for loop in flow.outer_loops() if flow.opcodes(loop).count("HMMA")]
    expected = 1 if pass_name == "forward" else 2
    if len(main_loops) != expected:
        raise SystemExit(
            f"{pass_name}, {dtype}: expected {expected} loops with tensor-core products, got {len(main_loops)}"
        )
    parts = [_tile_of(flow, loop, dtype, width) for loop in main_loops]
    return sum(parts[1:], parts[0])


def _panel_tile(library: Path, architecture: str, rows: int, dtype: str, width: int) -> Executed:
    """Return what a warp executes for a tile of a panel: its weights once, and every slice of the sums."""
    weights = flow_of(library, architecture, PANEL_KERNELS["weights", rows, dtype])
    (main,) = [loop for loop in weights.outer_loops() if weights.opcodes(loop).count("HMMA")]
    tile = _tile_of(weights, main, dtype, width)
    sums = flow_of(library, architecture, PANEL_KERNELS["weighted_sums", rows, dtype])
    (main,) = [loop for loop in sums.outer_loops() if sums.opcodes(loop).count("HMMA")]
    inner = sums.inner_loops(main)
    copy = next(loop for loop in inner if sums.opcodes(loop).count("LDGSTS"))
    rows_at_a_time = 256 * 16 // (SLICE * (4 if dtype == "float32" else 2))
    path = sums.path(main, {copy: TILE_COLUMNS // rows_at_a_time}, lambda b: has(b, "HMMA"), {*inner} - {copy})
    return tile + executed(path).times(-(-width // SLICE))


def _tile_of(flow: ControlFlow, main: Loop, dtype: str, width: int) -> Executed:
    value_bytes = 4 if dtype == "float32" else 2
    slices = -(-width // SLICE)
    step = 8 if dtype == "float32" else 32  # columns of the width in one pass through the loop of products
    rows_at_a_time = 256 * 16 // (SLICE * value_bytes)  # that all threads copy
    inner = flow.inner_loops(main)
    products = next(loop for loop in inner if flow.opcodes(loop).count("HMMA"))
    copies = [loop for loop in inner if flow.opcodes(loop).count("LDGSTS")]
    columns_copy = [loop for loop in copies if loop.header < products.header]
    rows_copy = [loop for loop in copies if loop.header > products.header]
    others = {loop for loop in inner if loop is not products and loop not in copies}
    trips = {products: min(width, SLICE) // step, columns_copy[0]: TILE_COLUMNS // rows_at_a_time}
    if slices > 1:
        trips[rows_copy[0]] = TILE_ROWS // rows_at_a_time
    else:
        others |= set(rows_copy)
    last = executed(flow.path(main, trips, lambda block: has(block, "MUFU.EX2", "HMMA"), others))
    if slices == 1:
        return last
    other = executed(flow.path(main, trips, lambda block: False, others))
    return last + other.times(slices - 1)


def spectrogram_forward_block(library: Path, architecture: str) -> Executed:
    """Return what a warp executes for a tile of 64 columns at the paper's settings: 4 rounds of frames, 16 of bands."""
    flow = flow_of(library, architecture, "log_spectrogram_forward_kernelILi512E")
    loops = flow.outer_loops()
    frames = next(loop for loop in loops if flow.opcodes(loop).count("LDG") and not flow.opcodes(loop).count("STG"))
    rows = next(loop for loop in loops if flow.opcodes(loop)["STG.E.128"])
    # Each of a thread's eight points has a block that loads two samples; a window of 240 samples fills four of them.
    loads = [block for block in frames.blocks if [i.opcode for i in flow.blocks[block]].count("LDG.E.64.CONSTANT") == 1]
    required = sorted(loads)[:4]
    round_of_frames = flow.path(frames, {}, lambda block: block[0].address in required, set())
    band = flow.path(rows, {}, lambda block: has(block, "STG.E.128"), set())
    return executed(round_of_frames).times(4) + executed(band).times(16)
