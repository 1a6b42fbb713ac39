"""Instructions that the CUDA kernels execute, counted in the machine code along the path of a full tile.

The main loops of the kernels are found by the instructions in them (tests/simt/machine_path.py). Which loops there are,
and how often they run, follows from the sources: csrc/kernels/contrastive_loss_tiles.cuh and
log_spectrogram_forward.cuh.
"""

import dataclasses
from pathlib import Path

from tests.simt.machine_path import ControlFlow, Instruction, Loop, control_flow
from tests.simt.machine_path import Path as InstructionPath

# contrastive_loss_plan.h; counts are of a warp's tile of 16 x TILE_COLUMNS logits.
TILE_ROWS, TILE_COLUMNS, SLICE, WARPS = 128, 32, 128, 8
COPY = "LDGSTS.E.BYPASS.128"  # of a row that is aligned; metadata are copied by one warp, 4 bytes at a time
LOGITS_COLUMNS = {"float32": 32, "bfloat16": 64}  # of a warp's tile in LogitsTile
TILE_SHAPE = "INS0_9TileShapeILi8ELi{}EEE"
LOSS_KERNELS = {
    (name, dtype): f"contrastive_loss_{name}_kernel{TILE_SHAPE.format(columns[dtype])}{mangled}"
    for name, columns in (("forward", LOGITS_COLUMNS), ("backward", {"float32": 32, "bfloat16": 32}))
    for dtype, mangled in (("float32", "f"), ("bfloat16", "NS_8BFloat16E"))
}
# WideTile, of bfloat16 logits of several slices: rows and columns of a warp, and of the width at a time.
WIDE_ROWS, WIDE_COLUMNS, WIDE_SLICE = 64, 48, 64
WIDE_FORWARD = "contrastive_loss_wide_forward_kernel"
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
    work: float  # of these floating-point arithmetic, products and accesses to memory: no addresses, no branches
    tensor: float  # HMMA
    special: float  # MUFU
    shared_bytes: float
    copied_bytes: float  # from the L2 cache into shared memory

    def __add__(self, other: "Executed") -> "Executed":
        return Executed(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))

    def times(self, count: float) -> "Executed":
        """Return the same, executed `count` times."""
        return Executed(*(count * each for each in dataclasses.astuple(self)))


FLOATS = ("FADD", "FMUL", "FFMA", "FMNMX", "FSETP", "FSEL", "F2FP", "I2FP", "MUFU", "HMMA")
ACCESSES = ("LDSM", "LDS", "STS", "LDG", "STG", "LDGSTS")


def executed(path: InstructionPath) -> Executed:
    work = sum(path.count(opcode) for opcode in FLOATS + ACCESSES)
    copied = InstructionPath({name: number for name, number in path.items() if name.startswith("LDGSTS")})
    return Executed(path.issued, work, path.count("HMMA"), path.count("MUFU"), path.shared_bytes, copied.shared_bytes)


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
    if pass_name == "forward" and dtype == "bfloat16" and width > SLICE:
        flow = flow_of(library, architecture, WIDE_FORWARD)
        (main,) = [loop for loop in flow.outer_loops() if flow.opcodes(loop).count("HMMA")]
        return _wide_tile_of(flow, main, width)
    one_slice = f"Lb{int(width <= SLICE)}E" if pass_name == "forward" else ""
    flow = flow_of(library, architecture, LOSS_KERNELS[pass_name, dtype] + one_slice)
    main_loops = [loop for loop in flow.outer_loops() if flow.opcodes(loop).count("HMMA")]
    expected = 1 if pass_name == "forward" else 2
    if len(main_loops) != expected:
        raise SystemExit(
            f"{pass_name}, {dtype}: expected {expected} loops with tensor-core products, got {len(main_loops)}"
        )
    columns = LOGITS_COLUMNS[dtype] if pass_name == "forward" else TILE_COLUMNS
    parts = [_tile_of(flow, loop, dtype, width, columns) for loop in main_loops]
    return sum(parts[1:], parts[0])


def _panel_tile(library: Path, architecture: str, rows: int, dtype: str, width: int) -> Executed:
    """Return what a warp executes for a tile of a panel: its weights once, and every slice of the sums."""
    weights = flow_of(library, architecture, PANEL_KERNELS["weights", rows, dtype])
    (main,) = [loop for loop in weights.outer_loops() if weights.opcodes(loop).count("HMMA")]
    if dtype == "bfloat16":
        tile = _wide_tile_of(weights, main, width)
    else:
        tile = _tile_of(weights, main, dtype, width, LOGITS_COLUMNS[dtype])
    sums = flow_of(library, architecture, PANEL_KERNELS["weighted_sums", rows, dtype])
    (main,) = [loop for loop in sums.outer_loops() if sums.opcodes(loop).count("HMMA")]
    inner = sums.inner_loops(main)
    path = sums.path(main, {}, lambda b: has(b, "HMMA", COPY), {*inner})
    return tile + executed(path).times(-(-width // SLICE))


def _tile_of(flow: ControlFlow, main: Loop, dtype: str, width: int, columns: int) -> Executed:
    """Return what a loop over tiles of so many columns executes, for TILE_COLUMNS of them."""
    value_bytes = 4 if dtype == "float32" else 2
    slices = -(-width // SLICE)
    rows_at_a_time = 256 * 16 // (SLICE * value_bytes)  # that all threads copy
    inner = flow.inner_loops(main)
    trips: dict[Loop, float] = {}
    # In float32 the products are a loop over the width, 8 columns at a time; in bfloat16 they are unrolled.
    if products := next((loop for loop in inner if flow.opcodes(loop).count("HMMA")), None):
        trips[products] = min(width, SLICE) // 8
    first_product = min(
        each.address for block in main.blocks for each in flow.blocks[block] if each.opcode.startswith("HMMA")
    )
    copies = [loop for loop in inner if flow.opcodes(loop).count("LDGSTS")]
    columns_copy = [loop for loop in copies if loop.header < first_product]
    rows_copy = [loop for loop in copies if loop.header > first_product]
    others = {loop for loop in inner if loop is not products and loop not in copies}
    for copy in columns_copy:  # unrolled where there are few
        trips[copy] = columns // rows_at_a_time
    if slices > 1:
        trips[rows_copy[0]] = TILE_ROWS // rows_at_a_time
    else:
        others |= set(rows_copy)
    tile = executed(flow.path(main, trips, lambda block: has(block, "MUFU.EX2", "HMMA", COPY), others))
    if slices > 1:
        tile += executed(flow.path(main, trips, lambda block: has(block, "HMMA", COPY), others)).times(slices - 1)
    return tile.times(TILE_COLUMNS / columns)


def _wide_tile_of(flow: ControlFlow, main: Loop, width: int) -> Executed:
    """Return what a loop over stages of WideTile executes, for 16 x TILE_COLUMNS of its logits."""
    unaligned = {*flow.inner_loops(main)}
    stage = executed(flow.path(main, {}, lambda block: has(block, "HMMA", COPY), unaligned))
    last = executed(flow.path(main, {}, lambda block: has(block, "MUFU.EX2", "HMMA", COPY), unaligned))
    tile = stage.times(-(-width // WIDE_SLICE) - 1) + last
    return tile.times(16 * TILE_COLUMNS / (WIDE_ROWS * WIDE_COLUMNS))


def spectrogram_forward_block(library: Path, architecture: str) -> Executed:
    """Return what a warp executes for a tile of 64 columns at the paper's settings: 4 rounds of frames, 16 bands."""
    flow = flow_of(library, architecture, "log_spectrogram_forward_kernelILi512E")
    loops = flow.outer_loops()
    frames = next(loop for loop in loops if flow.opcodes(loop).count("LDG") and not flow.opcodes(loop).count("STG"))
    rows = next(loop for loop in loops if flow.opcodes(loop)["STG.E.128"])
    # A window of 240 samples fills four of a thread's eight points, each loaded as a pair.
    pair = "LDG.E.64.CONSTANT"
    loads = [block for block in frames.blocks if any(i.opcode == pair for i in flow.blocks[block])]
    required = sorted(loads)[:4]
    round_of_frames = flow.path(frames, {}, lambda block: block[0].address in required, set())
    bands = flow.path(rows, {}, lambda block: has(block, "STG.E.128"), set())
    return executed(round_of_frames).times(4) + executed(bands).times(16 / bands["STG.E.128"])


def spectrogram_backward_round(library: Path, architecture: str) -> Executed:
    """Return what a warp executes for eight frames of a tile of 2048 samples at the paper's settings."""
    flow = flow_of(library, architecture, "log_spectrogram_backward_kernelILi512E")
    gather = next(loop for loop in flow.loops if flow.opcodes(loop).count("LDG") and not flow.opcodes(loop)["BAR"])
    a_round = next(loop for loop in flow.loops if gather.blocks < loop.blocks and _has_transform(flow, loop))
    per_column = flow.inner_loops(a_round)
    trips: dict[Loop, float] = {}
    for loop in flow.loops:
        if not loop.blocks < a_round.blocks:
            continue
        opcodes = flow.opcodes(loop)
        if opcodes.count("LDG") and not opcodes.count("LDS"):  # gradients: of 256 columns two frames share each
            is_of_bands = any(other.blocks < loop.blocks for other in flow.loops)
            trips[loop] = 8 if is_of_bands else 2 * 256 / 121
        elif opcodes.count("LDG"):  # from the spectrum to its gradient
            trips[loop] = 4
        else:  # samples of the tile, and the windows of 240 samples, 120 apart, that cover each
            trips[loop] = 8 if loop in per_column else 2
    pair = "LDG.E.64.CONSTANT"
    loads = [block for block in a_round.blocks if any(i.opcode == pair for i in flow.blocks[block])]
    required = sorted(loads)[:4]
    return executed(flow.path(a_round, trips, lambda block: block[0].address in required, set()))


def _has_transform(flow: ControlFlow, loop: Loop) -> bool:
    return flow.opcodes(loop).count("FADD") > 200
