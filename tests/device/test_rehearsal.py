"""The parts of tests/device/check.sh that need no emulator, on the CPU; `make rehearse` runs the whole script."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch

from tests.device import report, small, training
from usvs.ops import build_info
from usvs.training.compilation import Compile
from usvs.training.settings import OptimiserSettings, RunSettings
from usvs.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "device" / "check.sh"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["ops", "tiny", "profiled", "join", "million"])
def test_a_part_passes_on_the_cpu(part: str, tmp_path: Path):
    command = [sys.executable, "-m", "tests.device.small", part, "--device", "cpu", "--out", str(tmp_path / "out.json")]
    subprocess.run(command, cwd=ROOT, check=True)
    assert isinstance(json.loads((tmp_path / "out.json").read_text()), dict)


@pytest.mark.slow
def test_a_training_step_on_the_cpu(tmp_path: Path):
    command = [sys.executable, "-m", "tests.device.training", "eager", "--device", "cpu"]
    subprocess.run([*command, "--out", str(tmp_path / "out.json")], cwd=ROOT, check=True)
    assert json.loads((tmp_path / "out.json").read_text())["2 clips"]["step_seconds"] > 0


class Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x


class Unscriptable(Line):
    def forward(self, *x: torch.Tensor) -> torch.Tensor:
        return self.weight * x[0]


@pytest.mark.parametrize(
    ("module", "compiler", "runs_as"),
    [
        (Line, "torchscript", "torchscript"),
        (Line, "eager", "eager"),
        (Line, "inductor", "inductor"),
        (Unscriptable, "torchscript", "eager"),
    ],
)
def test_figures_of_a_compiler_that_was_not_used_fail_a_part(module: type[Line], compiler: Compile, runs_as: str):
    run = RunSettings(device="cpu", compile=compiler)
    ran = training.how_it_runs(Trainer(module(), OptimiserSettings(), run, total_steps=2, steps_per_epoch=1))
    assert ran["runs as"] == runs_as
    measured = {"device": "CPU", "2 clips": {**ran, "step_seconds": 0.1}}
    expected = [] if compiler == runs_as else ["2 clips: runs as: expected torchscript, got eager"]
    assert training.fallbacks(compiler, measured) == expected
    measured["4 clips"] = {**ran, "recomputes": True}
    assert training.fallbacks(compiler, measured)[-1] == "4 clips: recomputes: expected False, got True"


def test_a_wrong_result_fails_a_part_after_all_were_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(small, "contrastive_loss", lambda *inputs: 1.001 * small.contrastive_loss_reference(*inputs))
    measured: dict[str, object] = {}
    with pytest.raises(AssertionError, match=r"torch.float32 eq2 \(64, 192, 128\): expected an error of at most 1e-05"):
        small.ops("cpu", measured)
    assert "log_spectrogram" in measured


def test_the_ops_are_checked_where_the_python_module_cannot_be_built(monkeypatch: pytest.MonkeyPatch):
    """A bare machine may have no headers of Python; the ops need none."""
    monkeypatch.setitem(sys.modules, "usvs._C", None)
    monkeypatch.delattr(sys.modules["usvs"], "_C", raising=False)
    monkeypatch.setattr(small, "contrastive_loss", small.contrastive_loss_reference)  # slow levels are tested elsewhere
    measured: dict[str, object] = {}
    with pytest.raises(AssertionError, match="ring_contrastive_loss"):  # has other bits than the reference
        small.ops("cpu", measured)
    assert "usvs._C cannot be loaded" in str(measured["build"])


def test_an_error_that_is_no_number_is_infinite():
    nan, one = small.torch.tensor([float("nan")]), small.torch.ones(1)
    assert small.largest_error([nan], [one]) == float("inf")


NCU = """==PROF== Connected
"ID","Process ID","Kernel Name","Grid Size","Section Name","Metric Name","Metric Unit","Metric Value"
"0","9","loss_kernel","(16, 1, 1)","GPU Speed Of Light Throughput","Duration","us","12.5"
"0","9","loss_kernel","(16, 1, 1)","GPU Speed Of Light Throughput","Memory Throughput","%","31"
"0","9","loss_kernel","(16, 1, 1)","Memory Workload Analysis","Memory Throughput","Tbyte/s","1.49"
"0","9","loss_kernel","(16, 1, 1)","Occupancy","Achieved Occupancy","%","24.8"
"0","9","loss_kernel","(16, 1, 1)","Occupancy","Theoretical Occupancy","%","25"
"1","9","spectrogram_kernel","(8, 1, 1)","GPU Speed Of Light Throughput","Duration","us","3"
"""


def test_results_name_every_part_with_its_outcome(tmp_path: Path):
    rows = ("ops\t0\t7\t60", "tests\t1\t50\t100", "million\t124\t45\t45", "ncu\t0\t9\t45", "peers\tskipped\t0\t60")
    (tmp_path / "parts.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "ops.json").write_text('{"error": 1e-7, "build": {"simd": "avx2"}}')
    (tmp_path / "million.json").write_text('{"half a')  # was killed while it wrote
    (tmp_path / "ncu.log").write_text(NCU)
    (tmp_path / "out").mkdir()
    assert report.write_results(tmp_path, tmp_path / "out") == 3
    parts = json.loads((tmp_path / "out" / "results.json").read_text())["parts"]
    outcomes = [part["outcome"] for part in parts]
    assert outcomes == ["passed", "failed (1)", "too slow", "passed", "no time left"]
    assert parts[0]["measured"]["error"] == 1e-7 and parts[1]["measured"] is None
    of_all = "GPU Speed Of Light Throughput"
    assert parts[3]["measured"] == [
        {
            "kernel": "loss_kernel",
            "grid": "(16, 1, 1)",
            f"{of_all}: Duration": "12.5 us",
            f"{of_all}: Memory Throughput": "31 %",
            "Memory Workload Analysis: Memory Throughput": "1.49 Tbyte/s",
            "Occupancy: Achieved Occupancy": "24.8 %",
        },
        {"kernel": "spectrogram_kernel", "grid": "(8, 1, 1)", f"{of_all}: Duration": "3 us"},
    ]
    table = (tmp_path / "out" / "results.md").read_text()
    assert "| million | too slow | 45 | 45 |" in table
    assert "| ops, build, simd | avx2 |" in table and f"| ncu 0, {of_all}: Duration | 12.5 us |" in table


def test_every_part_of_the_script_exists_and_the_whole_ends_after_eight_minutes():
    script = SCRIPT.read_text()
    assert "SECONDS_LEFT:-$([ $mode = device ] && echo 480" in script
    rehearsal, on_device = script.split("\nelse\n")
    for text in (rehearsal, on_device):
        lines = [line.split() for line in text.splitlines() if line.startswith(("  small ", "  part ", "  training "))]
        names = {line[1] for line in lines}
        assert {"build", "ops", "tests", "memcheck", "racecheck", "join", "benchmarks", "million", "peers"} <= names
        assert {"torchscript", "inductor", "eager"} <= names
        for line in lines:
            assert line[0] != "small" or line[1] in small.PARTS
    assert re.findall(r"--section (\w+)", on_device) == list(report.COUNTED)
    for module in re.findall(r"-m ((?:tests|benchmarks)\.[\w.]+)", script):
        assert importlib.util.find_spec(module), module
    on_disk = {path.name for path in SCRIPT.parent.glob("*.sh")}
    assert set(re.findall(r"tests/device/(\w+\.sh)", script)) <= on_disk


def test_no_other_package_hides_what_the_script_runs(tmp_path: Path):
    for name in ("tests", "benchmarks"):
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name / "__init__.py").touch()
    program = "import tests.device.report, benchmarks.interleaved"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path / 'site'}"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)


NOT_INSTALLED = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if not finder.__module__.startswith("__editable__")]
"""


@pytest.mark.slow
@pytest.mark.compile
def test_a_library_built_for_another_python_is_not_built_again(tmp_path: Path):
    """Only usvs._C is made, by one call of the compiler."""
    pytest.importorskip("pybind11")
    shutil.copytree(ROOT / "usvs", tmp_path / "usvs", ignore=shutil.ignore_patterns("_C.*.so", "__pycache__"))
    (tmp_path / "csrc").symlink_to(ROOT / "csrc")
    (tmp_path / "setup.py").write_text("raise SystemExit('everything would be built')")
    (tmp_path / "sitecustomize.py").write_text(NOT_INSTALLED)
    command = ["bash", str(SCRIPT.with_name("build.sh")), sys.executable]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    built_with_cuda = bool(build_info()["cuda_architectures"])
    assert (done.returncode == 0) == built_with_cuda, done.stderr[-2000:]
    assert len(list((tmp_path / "usvs").glob("_C.*.so"))) == 1


ABSENT = ("av", "cv2", "filelock", "hypothesis", "joblib", "pydicom", "scipy", "sklearn", "soundfile", "soxr", "xdist")
WITHOUT = """
import sys, pytest
class Absent:
    @staticmethod
    def find_spec(name, *others):
        if name in {absent!r} or name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")
sys.meta_path.insert(0, Absent)
sys.exit(pytest.main({arguments!r}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["rehearsal", "device"])
def test_the_tests_that_it_runs_import_nothing_that_the_machine_may_lack(mode: str, tmp_path: Path):
    rehearsal, on_device = SCRIPT.read_text().split("\nelse\n")
    pytest_call = re.search(
        r"-m pytest (.*?tests/\w+(?:/\w+\.py \S+)?)[)\n]", on_device if mode == "device" else rehearsal, re.S
    )
    arguments = shlex.split(pytest_call[1].replace("\\\n", " "))
    absent = (*ABSENT, "usvs._C") if mode == "device" else ABSENT  # its own tests run where it cannot be built
    (tmp_path / "absent.py").write_text(WITHOUT.format(absent=absent, arguments=[*arguments, "--collect-only"]))
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "absent.py")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def start_script(folder: Path, other_parts: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start the rehearsal with an interpreter that runs lines of shell in place of the parts after `build`."""
    cases = f'*device.report*) exec {sys.executable} "$@";; *build_info*) exit 0;;'
    (folder / "python").write_text(f'#!/bin/sh\ncase "$*" in {cases} esac\n{other_parts}\n')
    (folder / "python").chmod(0o755)
    folders = {"OUT": str(folder / "out"), "WORK": str(folder / "parts")}
    environment |= {"PATH": "/usr/bin:/bin", "PYTHON": str(folder / "python"), **folders}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([str(SCRIPT), "--rehearse"], env=environment, start_new_session=True, **quiet)


def outcomes_in(folder: Path) -> dict[str, str]:
    """Return the outcomes of the parts; the files that come back from a device are these three and no other."""
    assert {path.name for path in (folder / "out").iterdir()} == {"results.json", "results.md", "logs.tgz"}
    parts = json.loads((folder / "out" / "results.json").read_text())["parts"]
    assert all(f"| {part['part']} | {part['outcome']} |" in (folder / "out/results.md").read_text() for part in parts)
    return {part["part"]: part["outcome"] for part in parts}


@pytest.mark.slow
def test_the_script_counts_what_does_not_pass_and_stops_in_time(tmp_path: Path):
    status = start_script(tmp_path, "echo slow\nexec sleep 9", SECONDS_LEFT="6").wait()
    outcomes = outcomes_in(tmp_path)
    assert set(outcomes.values()) == {"passed", "too slow", "no time left"}
    assert status == len(outcomes) - 1
    with tarfile.open(tmp_path / "out" / "logs.tgz") as logs:
        assert {"build.log", "ops.log"} <= set(logs.getnames())


def test_a_script_that_is_killed_leaves_a_report(tmp_path: Path):
    started = tmp_path / "started"
    script = start_script(tmp_path, f"touch {started}\nexec sleep 5")
    while not started.exists():
        assert script.poll() is None
        time.sleep(0.05)
    os.killpg(script.pid, signal.SIGKILL)
    script.wait()
    assert outcomes_in(tmp_path) == {"build": "passed", "ops": "interrupted"}
