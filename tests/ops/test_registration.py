"""Registration of the ops: opcheck, TorchScript, torch.compile; and the error of a missing build."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import usvs
from usvs import _C
from usvs.ops import build_info, contrastive_loss, log_spectrogram
from usvs.ops._library import LIBRARY

ROOT = Path(__file__).resolve().parents[2]


def loss_arguments(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(n, 6, dtype=dtype, generator=generator).requires_grad_() for n in (5, 5, 5, 11)]
    return [*tensors, torch.tensor([0, 1, -1, 3, 10])]


def waveform() -> Tensor:
    return torch.randn(2, 700, generator=torch.Generator().manual_seed(1)).requires_grad_()


def recording() -> tuple:
    long = torch.randn(2000, generator=torch.Generator().manual_seed(1)).requires_grad_()
    return long, 64, 40, 30, 20, 1e-3, torch.tensor([0, 1300, 7]), 700


def maps() -> Tensor:
    return torch.randn(2, 8, 3, 5).contiguous(memory_format=torch.channels_last)


def statistics() -> Tensor:
    return torch.stack((torch.zeros(8), torch.ones(8))).double()


def norm_arguments() -> list[Tensor]:
    return [maps(), torch.ones(8), torch.zeros(8), statistics()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("log_spectrogram", lambda: (waveform(), 64, 40, 30, 20, 1e-6)),
        ("log_spectrogram", lambda: (waveform(),)),
        ("log_spectrogram", lambda: (*recording(), torch.bfloat16)),
        ("contrastive_loss", lambda: (*loss_arguments(), 0.5, 1.0, "ntxent")),
        ("contrastive_loss", lambda: tuple(loss_arguments(torch.bfloat16))),
        ("contrastive_loss_forward", lambda: (*loss_arguments(torch.float64), 0.5, 1.0, "eq2", None)),
        ("contrastive_loss_with_slopes", lambda: (*loss_arguments(torch.float64), 0.5, 1.0, "eq2", None)),
        ("batch_norm_moments", lambda: (maps(), torch.zeros(8), torch.ones(8), True, 0.1, 1e-5)),
        ("batch_norm_apply", lambda: (*norm_arguments(), torch.rand(2, 8), None, True)),
        ("batch_norm_sums", lambda: (maps(), maps(), maps(), *norm_arguments()[1:], None, True)),
        ("batch_norm_gradient", lambda: (maps(), *norm_arguments(), None, None, statistics(), True, True)),
        ("batch_norm_forward", lambda: (*norm_arguments()[:3], None, None, True, 0.1, 1e-5, maps(), True)),
        ("batch_norm_backward", lambda: (maps(), maps(), maps(), *norm_arguments()[1:], True, True)),
    ],
)
def test_opcheck(name: str, arguments):
    torch.library.opcheck(getattr(torch.ops.usvs, name).default, arguments())


def test_opcheck_of_out():
    op, out = torch.ops.usvs.log_spectrogram.out, torch.empty(2, 1, 32, 20)
    torch.library.opcheck(op, (waveform().detach(), 64, 40, 30, 20), {"out": out})


class Objective(torch.nn.Module):
    """Both ops as a scripted trainer would call them."""

    def forward(
        self, waveform: Tensor, anchors: Tensor, positives: Tensor, negatives: Tensor, candidates: Tensor, own: Tensor
    ) -> Tensor:
        spectrogram = torch.ops.usvs.log_spectrogram(waveform, 64, 40, 30, 20, 1e-3)
        losses = torch.ops.usvs.contrastive_loss(
            anchors, positives, negatives, candidates, own, temperature=0.5, form="ntxent"
        )
        return losses.mean() + spectrogram.square().mean() + log_spectrogram(waveform).mean()


def values_and_gradients(function, inputs: list[Tensor]) -> list[Tensor]:
    value = function(*inputs)
    leaves = [tensor for tensor in inputs if tensor.requires_grad]
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    return [value, *(g for g in gradients if g is not None)]


def test_torchscript_equals_eager_with_gradients(tmp_path: Path):
    scripted = torch.jit.script(Objective())
    scripted.save(str(tmp_path / "objective.pt"))
    loaded = torch.jit.load(str(tmp_path / "objective.pt"))
    for _ in range(4):  # TorchScript specialises in its first runs
        inputs = [waveform(), *loss_arguments()]
        eager = values_and_gradients(Objective(), inputs)
        assert len(eager) == 1 + 5
        for function in (scripted, loaded):
            for got, expected in zip(values_and_gradients(function, inputs), eager, strict=True):
                assert torch.equal(got, expected)


def test_the_public_functions_can_be_scripted():
    inputs = loss_arguments()
    assert torch.equal(torch.jit.script(contrastive_loss)(*inputs), contrastive_loss(*inputs))
    scripted = torch.jit.script(log_spectrogram)
    assert torch.equal(scripted(waveform()), log_spectrogram(waveform()))
    assert torch.equal(scripted(*recording(), torch.bfloat16), log_spectrogram(*recording(), torch.bfloat16))
    out = torch.empty(2, 1, 256, 256)
    assert torch.equal(scripted(waveform().detach(), out=out), log_spectrogram(waveform()))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_as_one_graph(dynamic: bool):
    inputs = [waveform(), *loss_arguments()]
    compiled = torch.compile(Objective(), fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for got, expected in zip(
        values_and_gradients(compiled, inputs), values_and_gradients(Objective(), inputs), strict=True
    ):
        torch.testing.assert_close(got, expected)


def test_the_public_loss_compiles_as_one_graph():
    inputs = loss_arguments()
    compiled = torch.compile(lambda *x: contrastive_loss(*x).mean(), fullgraph=True, backend="aot_eager")
    for got, expected in zip(
        values_and_gradients(compiled, inputs),
        values_and_gradients(lambda *x: contrastive_loss(*x).mean(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)


def test_compiles_with_pieces_and_out():
    def function(long: Tensor, out: Tensor) -> Tensor:
        log_spectrogram(long, offsets=torch.tensor([0, 500]), length=700, out=out)
        return 2 * out

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    long, out = recording()[0].detach(), torch.zeros(2, 1, 256, 256, dtype=torch.bfloat16)
    assert torch.equal(compiled(long, out), function(long, torch.zeros_like(out)))
    assert torch.equal(out, log_spectrogram(long, offsets=torch.tensor([0, 500]), length=700, dtype=torch.bfloat16))


def test_error_messages_in_torchscript():
    scripted = torch.jit.script(Objective())
    inputs = [waveform(), *loss_arguments()]
    inputs[5] = torch.tensor([0, 1, 2, 3, 11])
    with pytest.raises(RuntimeError, match=r"self_index: expected -1 \.\.\. 10, got 11"):
        scripted(*inputs)


def test_build_info():
    info = build_info()
    assert info["simd"] in info["simd_usable"]
    assert set(info["simd_usable"]) <= set(info["simd_compiled"])
    assert info["simd_compiled"][0] == "portable"
    assert info["torch"] == torch.__version__ and info["usvs"] == usvs.__version__
    with pytest.raises(ValueError, match="SIMD level: expected portable, avx2, avx512 or avx512_bf16, got 'mmx'"):
        _C.use_simd("mmx")


def test_bfloat16_products_are_used_where_they_are_fast_or_chosen():
    program = (
        "import torch\n"
        "from usvs import _C\n"
        "print(_C.build_info()['simd'], _C.build_info()['bfloat16_products'])\n"
        "for level in _C.build_info()['simd_usable']:\n"
        "    _C.use_simd(level)\n"
        "    assert _C.build_info()['bfloat16_products'] == (level == 'avx512_bf16')\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    widest, products = build_info()["simd_usable"][-1], "GenuineIntel" not in Path("/proc/cpuinfo").read_text()
    assert run.stdout.split() == [widest, str(widest == "avx512_bf16" and products)]


@pytest.mark.slow
def test_error_of_a_missing_build_is_one_line():
    program = (
        "import torch\n"
        "def refuse(path):\n    raise OSError(path + ': cannot open shared object file')\n"
        "torch.ops.load_library = refuse\n"
        "from usvs.errors import MissingDependencyError\n"
        "try:\n    import usvs.ops\n"
        "except MissingDependencyError as error:\n    print(error)"
    )
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "usvs/libusvs_ops.so: cannot open shared object file" in output.stdout
    assert "pip install --no-build-isolation -e ." in output.stdout
    assert output.stdout.count("\n") == 1


@pytest.mark.slow
def test_the_ops_work_without_the_python_module():
    program = (
        "import sys; sys.modules['usvs._C'] = None\n"
        "import torch\n"
        "from usvs import ops\n"
        "from usvs.errors import MissingDependencyError\n"
        "assert ops.log_spectrogram(torch.zeros(1, 700)).shape == (1, 1, 256, 256)\n"
        "try:\n    ops.build_info()\n"
        "except MissingDependencyError as error:\n    print(error)"
    )
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert output.stdout.startswith("usvs._C cannot be loaded")
    assert "pip install --no-build-isolation -e ." in output.stdout


def dynamic_symbols(library: Path) -> list[str]:
    if not shutil.which("nm"):
        pytest.skip("nm is absent: symbols are not read")
    command = ["nm", "--dynamic", "--undefined-only", str(library)]
    return [line.split()[-1] for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines()]


def test_the_ops_library_uses_neither_python_nor_the_unstable_abi_of_torch():
    symbols = dynamic_symbols(LIBRARY)
    assert "torch_library_impl" in symbols
    assert not [name for name in symbols if name.startswith(("Py", "_Py"))]
    assert not [name for name in symbols if re.search(r"N?K?(2at|3c10|5torch)\d", name)]  # mangled C++ names of torch
    assert [name for name in dynamic_symbols(Path(_C.__file__)) if name.startswith("Py")]  # what the search would find


@pytest.mark.compile
@pytest.mark.parametrize(
    ("definitions", "message"),
    [
        (["-DUSVS_CUDA=ON"], "USVS_CUDA=ON, but there is no working nvcc"),
        (["-DUSVS_CUDA=YES"], "expected AUTO, ON or OFF, got 'YES'"),
    ],
)
def test_errors_of_the_build_configuration(tmp_path: Path, definitions: list[str], message: str):
    pybind11, cmake = pytest.importorskip("pybind11"), Path(sys.executable).parent / "cmake"
    if not cmake.exists():
        pytest.skip("CMake is not installed beside this Python")
    command = [str(cmake), "-S", str(ROOT), "-B", str(tmp_path), "-G", "Ninja", *definitions]
    command += [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]
    command += [f"-DUSVS_TORCH_DIR={Path(torch.__file__).parent}", f"-DCMAKE_MAKE_PROGRAM={cmake.parent / 'ninja'}"]
    environment = {"PATH": "/usr/bin:/bin", "CUDACXX": "/nowhere/nvcc"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert message in " ".join(result.stderr.split())
