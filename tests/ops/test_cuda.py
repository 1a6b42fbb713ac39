"""The ops on CUDA: errors where it cannot run, and the loss on a real device (`make test-gpu`)."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.device.small import CARRIED
from usvs.ops import build_info, contrastive_loss, contrastive_loss_reference

ROOT = Path(__file__).resolve().parents[2]
OPS = ("log_spectrogram", "log_spectrogram_backward", "contrastive_loss_forward", "contrastive_loss_backward")


@pytest.fixture
def built() -> None:
    if not build_info()["cuda_architectures"]:
        pytest.skip("built without CUDA kernels")


def embeddings(n: int, m: int, d: int, dtype: torch.dtype, scale: float = 1.7, device: str = "cuda") -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = (torch.randn(count, d, generator=generator, dtype=torch.float64) for count in (n, n, n, m))
    return [F.normalize(row, dim=1).mul(scale).to(device, dtype).requires_grad_() for row in rows]


def some_index(n: int, m: int, device: str = "cuda") -> Tensor:
    return torch.randint(-1, m, (n,), generator=torch.Generator().manual_seed(5)).to(device)


def values_and_gradients(op: Callable[..., Tensor], tensors: list[Tensor], *rest: object) -> list[Tensor]:
    losses = op(*tensors, *rest)
    weights = torch.linspace(0.5, 1.5, len(losses), device=losses.device, dtype=losses.dtype)
    return [losses.detach(), *torch.autograd.grad(losses, tensors, weights)]


# ---- without a device
@pytest.mark.parametrize("op", OPS)
def test_every_op_has_a_cuda_kernel_or_an_error_message(op: str):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"usvs::{op}", "CUDA")


def call_cuda_kernel(tensors: list[Tensor]) -> None:
    """Call the CUDA kernel with any tensors; the dispatcher would choose the kernel of their device."""
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    index = torch.arange(len(tensors[0]))
    torch.ops.usvs.contrastive_loss_forward.default.redispatch(keys, *tensors, index, 1.0, 1.0, "eq2", None)


@pytest.mark.usefixtures("built")
def test_a_tensor_on_the_cpu_is_refused_by_the_cuda_kernel():
    with pytest.raises(RuntimeError, match="anchors: expected a CUDA tensor, got one on the CPU"):
        call_cuda_kernel(embeddings(3, 5, 4, torch.float32, device="cpu"))


@pytest.mark.usefixtures("built")
def test_workspace_size_of_the_loss():
    from usvs import _C

    assert _C.contrastive_loss_workspace_bytes(2**20, 2**20, 128, "float32") == {"forward": 0, "backward": 0}
    assert 0 < _C.contrastive_loss_workspace_bytes(64, 4096, 128, "bfloat16")["backward"] < 2**28
    with pytest.raises(ValueError, match="dtype: expected float32 or bfloat16, got 'float64'"):
        _C.contrastive_loss_workspace_bytes(64, 192, 128, "float64")


@pytest.mark.compile
def test_error_of_a_build_without_cuda(tmp_path: Path):
    torch_dir, library = Path(torch.__file__).parent, tmp_path / "absent.so"
    sources = [ROOT / "csrc" / "bindings" / name for name in ("schemas.cpp", "register_cuda_absent.cpp")]
    flags = ["-std=c++20", "-O0", "-shared", "-fPIC", "-DTORCH_TARGET_VERSION=0x020b000000000000"]
    includes = [f"-I{ROOT / 'csrc'}", "-isystem", str(torch_dir / "include")]
    link = [f"-L{torch_dir / 'lib'}", "-ltorch_cpu", "-o", str(library)]
    subprocess.run(["g++", *flags, *includes, *map(str, sources), *link], check=True)
    program = (
        f"import torch\ntorch.ops.load_library({str(library)!r})\n"
        "keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)\n"
        "try:\n    torch.ops.usvs.log_spectrogram.default.redispatch(keys, torch.zeros(1, 999))\n"
        "except RuntimeError as error:\n    print(error)"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "this build has no CUDA kernels; build them where nvcc is installed: USVS_CUDA=ON pip install" in output


@pytest.mark.slow
@pytest.mark.compile
@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc here")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a driver")
def test_error_of_a_launch_without_a_driver(tmp_path: Path):
    program = tmp_path / "launch"
    sources = [ROOT / "tests" / "ops" / "launch_without_driver.cu", ROOT / "csrc" / "cuda" / "contrastive_loss.cu"]
    command = ["nvcc", "-std=c++20", "-arch=compute_90", f"-I{ROOT / 'csrc'}", *map(str, sources), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("usvs: ")
    assert "CUDA" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.slow
@pytest.mark.compile
@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc here")
def test_an_error_that_was_reported_is_not_reported_by_the_next_launch(tmp_path: Path):
    program = tmp_path / "errors"
    source = ROOT / "tests" / "ops" / "runtime_errors.cu"
    command = ["nvcc", "-std=c++20", "-arch=compute_90", "-cudart=none", f"-I{ROOT / 'csrc'}", str(source)]
    subprocess.run([*command, "-o", str(program)], check=True, capture_output=True)
    output = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    assert output == "usvs: clear: invalid argument\nlast error: 0\n"


# ---- on a device
SHAPES = [
    (1, 4, 1),
    (5, 11, 7),
    (64, 192, 128),
    (253, 515, 33),
    (300, 1100, 16),
    (3, 9000, 5),
    (700, 2100, 300),
    CARRIED,
]


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [(1.0, 1.0, "eq2"), (0.1, 0.5, "eq2"), (0.5, 1.0, "ntxent")], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_equals_the_reference(dtype: torch.dtype, shape: tuple[int, int, int], settings: tuple[float, float, str]):
    tensors, index = embeddings(*shape, dtype), some_index(*shape[:2])
    exact = [tensor.detach().cpu().double().requires_grad_() for tensor in tensors]
    losses, *gradients = values_and_gradients(contrastive_loss, tensors, index, *settings)
    expected, *right = values_and_gradients(contrastive_loss_reference, exact, index.cpu(), *settings)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses.cpu().double(), expected, rtol=1e-5, atol=1e-5)
    tolerance = 1e-5 if dtype == torch.float32 else 2**-8
    for got, exactly in zip(gradients, right, strict=True):
        assert got.dtype == dtype
        assert (got.cpu().double() - exactly).abs().max() <= tolerance * exactly.abs().max().clamp_min(1e-6)


@pytest.mark.gpu
def test_float32_precision_at_similarities_of_eighty():
    tensors, index = embeddings(4096, 12_288, 128, torch.float32, scale=80**0.5), torch.arange(4096, device="cuda")
    with torch.no_grad():
        tensors[3][:4096], tensors[3][4096:8192] = tensors[0], tensors[1]
        tensors[1][:1000] = tensors[0][:1000]  # a = 80
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    found = values_and_gradients(contrastive_loss, tensors, index)
    for got, right in zip(found, values_and_gradients(contrastive_loss_reference, exact, index), strict=True):
        assert (got.double() - right).abs().max() <= 1e-5 * right.abs().max()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_same_bits_every_time_and_on_any_stream(dtype: torch.dtype):
    tensors, index = embeddings(300, 9000, 128, dtype), some_index(300, 9000)
    first = values_and_gradients(contrastive_loss, tensors, index)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        second = values_and_gradients(contrastive_loss, tensors, index)
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.gpu
def test_a_captured_graph_runs_again_on_other_numbers():
    tensors, index = embeddings(100, 3000, 64, torch.float32), some_index(100, 3000)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        values_and_gradients(contrastive_loss, tensors, index)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = values_and_gradients(contrastive_loss, tensors, index)
    for scale in (0.5, 3.0):  # twice: a replay must clear its own counters
        with torch.no_grad():
            for tensor in tensors:
                tensor.mul_(scale)
        graph.replay()
        expected = values_and_gradients(contrastive_loss, tensors, index)
        assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))


@pytest.mark.gpu
def test_no_host_synchronisation():
    tensors, index = embeddings(64, 192, 128, torch.float32), some_index(64, 192)
    values_and_gradients(contrastive_loss, tensors, index)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        contrastive_loss(*tensors, index).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "m"), [(torch.float32, 1_000_000), (torch.bfloat16, 3_000_000)], ids=str)
def test_a_million_anchors_fit_in_two_and_a_half_gigabytes_beside_the_inputs(dtype: torch.dtype, m: int):
    tensors = [torch.randn(n, 128, device="cuda", dtype=dtype).requires_grad_() for n in (10**6, 10**6, 10**6, m)]
    index = torch.arange(10**6, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    contrastive_loss(*tensors, index).mean().backward()
    assert torch.cuda.max_memory_allocated() - before <= 2.5e9


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one device")
def test_second_device():
    tensors, index = embeddings(40, 120, 16, torch.float32), some_index(40, 120)
    moved = [tensor.detach().to("cuda:1").requires_grad_() for tensor in tensors]
    first = values_and_gradients(contrastive_loss, tensors, index)
    second = values_and_gradients(contrastive_loss, moved, index.to("cuda:1"))
    assert torch.cuda.current_device() == 0
    assert all(b.device.index == 1 and torch.equal(a, b.to(a.device)) for a, b in zip(first, second, strict=True))


@pytest.mark.gpu
def test_opcheck_and_one_graph():
    tensors, index = embeddings(5, 11, 6, torch.float32), some_index(5, 11)
    torch.library.opcheck(torch.ops.usvs.contrastive_loss.default, (*tensors, index, 0.5, 1.0, "ntxent"))
    compiled = torch.compile(contrastive_loss, fullgraph=True)
    for got, right in zip(
        values_and_gradients(compiled, tensors, index),
        values_and_gradients(contrastive_loss, tensors, index),
        strict=True,
    ):
        torch.testing.assert_close(got, right)


@pytest.mark.gpu
def test_invalid_arguments_raise_on_cuda():
    tensors, index = embeddings(4, 9, 8, torch.float32), some_index(4, 9)
    with pytest.raises(RuntimeError, match="candidates: expected CUDA device 0, where anchors is, got the CPU"):
        contrastive_loss(*tensors[:3], tensors[3].detach().cpu(), index)
    with pytest.raises(RuntimeError, match="self_index: expected CUDA device 0, where anchors is, got the CPU"):
        contrastive_loss(*tensors, index.cpu())
    with pytest.raises(RuntimeError, match="anchors: expected float32 or bfloat16 on CUDA, got Double"):
        contrastive_loss(*(tensor.double() for tensor in tensors), index)
    index[0] = 9
    losses = contrastive_loss(*tensors, index)
    assert losses.isnan().tolist() == [True, False, False, False]
    gradients = torch.autograd.grad(losses.sum(), tensors)
    assert gradients[3].isfinite().all() and gradients[0][1:].isfinite().all() and gradients[0][0].isnan().all()


@pytest.mark.gpu
def test_a_temperature_on_the_device():
    tensors, index = embeddings(40, 120, 16, torch.float32), some_index(40, 120)
    learned, number = torch.tensor(0.25, device="cuda", requires_grad=True), 0.25
    losses = contrastive_loss(*tensors, index, learned)
    assert torch.equal(losses, contrastive_loss(*tensors, index, number))
    (found,) = torch.autograd.grad(losses.sum(), learned)
    (expected,) = torch.autograd.grad(contrastive_loss_reference(*tensors, index, learned).sum(), learned)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert contrastive_loss(*tensors, index, torch.tensor(-1.0, device="cuda")).isnan().all()
