"""Instructions along a path of machine code: of a small program, and of the kernels against budgets."""

import pytest

from tests.simt.machine_code import cuda_headers, tool
from tests.simt.machine_path import ControlFlow, Instruction, Path
from usvs.ops import build_info
from usvs.ops._library import LIBRARY

PROGRAM = """
  00 MOV
  10 LDG           # main loop
  20 ?BRA 60       # a rare case is jumped over
  30 FSEL
  40 FSEL
  50 FSEL
  60 LDSM.16.M88.4 # inner loop
  70 HMMA
  80 ?BRA 60
  90 ?BRA d0       # the work may be jumped over, too
  a0 MUFU.EX2
  b0 LDS.64
  c0 STS.128
  d0 ?BRA 10
  e0 EXIT
  f0 BRA f0        # padding
"""


def program() -> ControlFlow:
    instructions = []
    for line in PROGRAM.strip().splitlines():
        address, opcode, *rest = line.partition("#")[0].split()
        target = int(rest[0], 16) if rest else None
        instructions.append(Instruction(int(address, 16), opcode.startswith("?"), opcode.lstrip("?"), target))
    return ControlFlow(instructions)


def test_a_path_takes_the_work_and_no_rare_case():
    flow = program()
    (main,) = flow.outer_loops()
    (inner,) = flow.inner_loops(main)
    assert (main.header, inner.header) == (0x10, 0x60)
    path = flow.path(main, {inner: 5}, lambda block: any(i.opcode == "MUFU.EX2" for i in block), set())
    assert path == {
        "LDG": 1,
        "BRA": 1 + 5 + 1 + 1,
        "LDSM.16.M88.4": 5,
        "HMMA": 5,
        "MUFU.EX2": 1,
        "LDS.64": 1,
        "STS.128": 1,
    }
    assert path.issued == 22 and path.count("HMMA") == 5
    assert path.shared_bytes == 5 * 512 + 256 + 512
    shortest = flow.path(main, {inner: 5}, lambda block: False, set())
    assert shortest["MUFU.EX2"] == 0 and shortest["HMMA"] == 5


def test_bytes_of_shared_memory():
    assert (
        Path({"LDGSTS.E.BYPASS.128": 2, "LDS": 3, "LDSM.16.MT88.4": 1, "LDG.E.64": 7}).shared_bytes
        == 2 * 512 + 3 * 128 + 512
    )


# Instructions of a warp for a tile of 16 x 32 logits on sm_90, at most; backward: for one of each kind of block.
MOST = {
    ("forward", "float32"): 1450,
    ("forward", "bfloat16"): 185,
    ("backward", "float32"): 5300,
    ("backward", "bfloat16"): 870,
}


@pytest.mark.slow
@pytest.mark.skipif(not build_info()["cuda_architectures"], reason="built without the CUDA kernels")
@pytest.mark.skipif(not (tool("cuobjdump") and tool("nvdisasm") and cuda_headers()), reason="no CUDA binary tools")
@pytest.mark.parametrize(("pass_name", "dtype"), MOST)
def test_a_tile_of_the_loss_takes_few_instructions(pass_name: str, dtype: str):
    from benchmarks.executed_instructions import loss_tile

    tile = loss_tile(LIBRARY, "sm_90", pass_name, dtype, 128)
    assert tile.instructions <= MOST[pass_name, dtype]
    # The products alone: 4 fragments of 8 columns; three TF32 products for one; two parts of a bfloat16 weight.
    logits, sums = (4 * 16 * 3, 4 * 16 * 3) if dtype == "float32" else (4 * 8, 2 * 16 * 2)
    assert tile.tensor == (logits if pass_name == "forward" else 2 * (logits + sums))


@pytest.mark.slow
@pytest.mark.skipif(not build_info()["cuda_architectures"], reason="built without the CUDA kernels")
@pytest.mark.skipif(not (tool("cuobjdump") and tool("nvdisasm") and cuda_headers()), reason="no CUDA binary tools")
@pytest.mark.parametrize("width", [256, 512, 1024])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_backward_pass_has_four_products_at_any_width(dtype: str, width: int):
    from benchmarks.executed_instructions import loss_tile

    tile, one_slice = (loss_tile(LIBRARY, "sm_90", "backward", dtype, each) for each in (width, 128))
    assert tile.tensor == width // 128 * one_slice.tensor, "as many products for each slice as for the only one"
    assert tile.special == one_slice.special, "every exponential once"
    assert tile.instructions <= 1.4 * width / 128 * one_slice.instructions
