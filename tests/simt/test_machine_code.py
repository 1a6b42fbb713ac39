"""The machine code of the kernels is within its budgets, and each check detects a regression."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.simt.machine_code import ARCHITECTURES, Budget, check, check_architectures, cuda_headers, kernels, tool
from usvs.ops import build_info
from usvs.ops._library import LIBRARY

BINARY = LIBRARY
if not build_info()["cuda_architectures"]:
    pytest.skip("built without the CUDA kernels: there is no machine code", allow_module_level=True)
if not (tool("cuobjdump") and tool("nvdisasm")):
    reason = "cuobjdump and nvdisasm are absent (the dev extra brings them): machine code is not checked"
    pytest.skip(reason, allow_module_level=True)
if not cuda_headers():
    pytest.skip("cuda_occupancy.h is absent: occupancy cannot be computed", allow_module_level=True)

THREADS = 256  # of every block


def blocks(ampere: int, later: int) -> dict[str, int]:
    return {"sm_80": ampere, "sm_90": later, "sm_100": later}


PAIRS = {"LDG.64": 8, "LDS.64": 24}  # samples two at a time, twiddles and points whole
ROWS = {"STG.128": 1, "STG.64": 1}  # four columns at once, float32 and bfloat16
# Dynamic shared memory is that of a window as long as the transform, the paper's 240 samples at n_fft = 512.
BUDGETS = {
    "log_spectrogram_forward_kernelILi64E": Budget(THREADS, 26_624, 64, blocks(4, 4), ROWS),
    "log_spectrogram_forward_kernelILi128E": Budget(THREADS, 27_008, 64, blocks(4, 4), ROWS),
    "log_spectrogram_forward_kernelILi256E": Budget(THREADS, 35_840, 64, blocks(4, 4), PAIRS | ROWS),
    "log_spectrogram_forward_kernelILi512E": Budget(THREADS, 52_224, 64, blocks(3, 4), PAIRS | ROWS),
    "log_spectrogram_forward_kernelILi1024E": Budget(THREADS, 55_328, 64, blocks(2, 3), PAIRS | ROWS),
    "log_spectrogram_forward_kernelILi2048E": Budget(THREADS, 59_408, 128, blocks(2, 2), PAIRS | ROWS),
    "log_spectrogram_forward_kernelILi4096E": Budget(THREADS, 100_384, 128, blocks(1, 2), PAIRS | ROWS),
    "log_spectrogram_backward_kernelILi64E": Budget(THREADS, 34_816, 128, blocks(2, 2), {"LDG.64": 8}),
    "log_spectrogram_backward_kernelILi128E": Budget(THREADS, 35_200, 128, blocks(2, 2), PAIRS),
    "log_spectrogram_backward_kernelILi256E": Budget(THREADS, 35_840, 128, blocks(2, 2), PAIRS),
    "log_spectrogram_backward_kernelILi512E": Budget(THREADS, 35_840, 80, blocks(3, 3), PAIRS),
    "log_spectrogram_backward_kernelILi1024E": Budget(THREADS, 39_008, 80, blocks(3, 3), PAIRS),
    "log_spectrogram_backward_kernelILi2048E": Budget(THREADS, 51_312, 128, blocks(2, 2), PAIRS),
    "log_spectrogram_backward_kernelILi4096E": Budget(THREADS, 75_904, 128, blocks(2, 2), PAIRS),
}
# The loss: products on tensor cores, tiles by cp.async and ldmatrix, two blocks on a multiprocessor. TileShape names
# warps of rows and columns of a warp; of few rows (2 warps) the products of a warp are fewer. Of the dynamic shared
# memory this is what d = 128 takes.
TENSOR, FEW = {"HMMA": 8, "LDSM": 3, "LDGSTS": 3}, {"HMMA": 6, "LDSM": 2, "LDGSTS": 3}
BFLOAT16 = "NS_8BFloat16E"


def tile(row_warps: int, columns: int, dtype: str) -> str:
    return f"INS0_9TileShapeILi{row_warps}ELi{columns}EEE{dtype}"


LOGITS = {
    "f": Budget(THREADS, 101_376, 128, blocks(1, 2), TENSOR),
    BFLOAT16: Budget(THREADS, 69_632, 128, blocks(2, 2), TENSOR),
}
SUMS = TENSOR | {"HMMA": 64}
# Tiles of 64 x 48 of a warp: 7 fragments from shared memory for 24 products, one block on a multiprocessor.
WIDE = Budget(THREADS, 92_160, 255, blocks(1, 1), {"HMMA": 96, "LDSM": 28, "LDGSTS": 10})
BUDGETS |= {
    f"forward_kernel{tile(2, 16, 'f')}Lb1E": Budget(THREADS, 84_480, 128, blocks(1, 2), FEW),
    f"forward_kernel{tile(2, 32, BFLOAT16)}Lb1E": Budget(THREADS, 78_336, 128, blocks(2, 2), TENSOR),
    f"backward_kernel{tile(8, 32, 'f')}E": Budget(THREADS, 101_376, 128, blocks(1, 2), SUMS),
    f"backward_kernel{tile(8, 32, BFLOAT16)}E": Budget(THREADS, 67_584, 128, blocks(2, 2), SUMS),
    f"backward_kernel{tile(2, 16, 'f')}E": Budget(THREADS, 101_376, 128, blocks(1, 2), SUMS),
    f"backward_kernel{tile(2, 32, BFLOAT16)}E": Budget(THREADS, 78_336, 128, blocks(2, 2), SUMS),
}
BUDGETS |= {f"forward_kernel{tile(8, 64, BFLOAT16)}Lb1E": LOGITS[BFLOAT16], "wide_forward_kernel": WIDE}
# Of one slice of the width (Lb1) and of several; anchors as rows (ILb1) and candidates.
for flag in ("Lb0", "Lb1"):
    BUDGETS |= {
        f"forward_kernel{tile(8, 32, 'f')}{flag}E": LOGITS["f"],
        f"contrastive_loss_weights_kernelI{flag}EfE": LOGITS["f"],
        f"contrastive_loss_weights_kernelI{flag}E{BFLOAT16}": WIDE,
        f"contrastive_loss_weighted_sums_kernelI{flag}EfE": Budget(
            THREADS, 67_584, 128, blocks(2, 2), {"HMMA": 64, "LDGSTS": 8}
        ),
        f"contrastive_loss_weighted_sums_kernelI{flag}E{BFLOAT16}": Budget(
            THREADS, 67_584, 128, blocks(2, 2), {"HMMA": 64, "LDSM": 3, "LDGSTS": 8}
        ),
    }


@pytest.mark.parametrize(
    "architecture", [pytest.param(each, marks=[] if each == "sm_90" else pytest.mark.slow) for each in ARCHITECTURES]
)
def test_every_kernel_keeps_its_budget(architecture: str):
    for name, kernel in kernels(BINARY, architecture).items():
        budgets = [budget for pattern, budget in BUDGETS.items() if pattern in name]
        assert len(budgets) == 1, f"{name}: {len(budgets)} budgets"
        check(kernel, budgets[0])


def test_every_budget_has_its_kernel():
    names = kernels(BINARY, "sm_90")
    assert not [pattern for pattern in BUDGETS if not any(pattern in name for name in names)]


def test_machine_code_for_three_architectures_and_ptx_for_later_ones():
    check_architectures(BINARY, [*ARCHITECTURES, "ptx sm_100"])


# A kernel that keeps its budget: 16 bytes at a time, a tensor core, few registers.
GOOD = """
__global__ void __launch_bounds__(256) kernel(const float4* in, float4* out, int n) {
  const float4 x = in[threadIdx.x];
  float d[4] = {x.x, x.y, x.z, x.w};
  unsigned a[4] = {1, 2, 3, 4}, b[2] = {5, 6};
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  out[threadIdx.x] = make_float4(d[0], d[1], d[2], d[3]);
}
"""
BODY = "  float d[4]"
MANY = range(60)
REGRESSIONS = {
    "": GOOD,
    "spills": GOOD.replace(
        BODY,
        "  float kept[64];\n  for (int i = 0; i < n; ++i) kept[i % 64] = i * x.x;\n"
        "  out[999] = make_float4(kept[n % 64], 0, 0, 0);\n" + BODY,
    ),
    "registers, over": GOOD.replace(
        BODY,
        "".join(f"  float k{i} = in[{i} * n].x * n;\n" for i in MANY)
        + "  __syncthreads();\n  float sum = 0;\n"
        + "".join(f"  sum = sum * k{i} + k{59 - i};\n" for i in MANY)
        + f"  out[n] = make_float4(sum, 0, 0, 0);\n{BODY}",
    ),
    "LDG.128, expected 1": GOOD.replace(
        "const float4 x = in[threadIdx.x];",
        "const float* s = (const float*)in;\n"
        "  const float4 x = make_float4(s[threadIdx.x], s[threadIdx.x + n], s[2 * n], s[3 * n]);",
    ),
    "HMMA, expected 1": re.sub(r"asm volatile.*?\)\);\n", "d[0] += a[0] + b[0];\n", GOOD, flags=re.S),
    "blocks fit a multiprocessor, expected 5": GOOD.replace(
        BODY,
        "  __shared__ float big[12000];\n  big[threadIdx.x] = n;\n  __syncthreads();\n  out[n].x = big[n];\n" + BODY,
    ),
}


@pytest.fixture(scope="module")
def regression_binaries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if not shutil.which("nvcc"):
        pytest.skip("nvcc is absent: no machine code with regressions can be compiled")
    folder = tmp_path_factory.mktemp("regressions")
    binaries = {}
    for number, (name, source) in enumerate(REGRESSIONS.items()):
        file = folder / f"regression{number}.cu"
        file.write_text(source)
        binaries[name] = file.with_suffix(".cubin")
        subprocess.run(["nvcc", "-arch=sm_90", "-cubin", str(file), "-o", str(binaries[name])], check=True)
    return binaries


@pytest.mark.compile
@pytest.mark.parametrize("name", REGRESSIONS)
def test_a_regression_is_detected(regression_binaries: dict[str, Path], name: str):
    (kernel,) = kernels(regression_binaries[name], "sm_90").values()
    budget = Budget(THREADS, 0, 40, blocks(4, 5), {"LDG.128": 1, "HMMA": 1})
    if not name:
        return check(kernel, budget)
    with pytest.raises(AssertionError, match=re.escape(name)):
        check(kernel, budget)


def test_a_missing_architecture_is_detected():
    with pytest.raises(AssertionError, match=r"lacks \['sm_70'\]"):
        check_architectures(BINARY, ["sm_90", "sm_70"])
