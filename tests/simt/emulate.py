"""Compile a kernel's entry for the emulator and run it: plain, under ASan + UBSan, or under TSan.

program = build(Build.PLAIN, "log_spectrogram")
result = run(program, "forward", {"waveform": array, "output": Out((2, 3)), "clips": 2}, schedules(20))
result["output"]
"""

import dataclasses
import enum
import hashlib
import os
import shutil
import subprocess
import tempfile
import unittest
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KEPT = ROOT / "build" / "simt"
COMPILER = os.environ.get("CXX", "g++")
POLICIES = ("fifo", "run-ahead", "uniform", "priorities")  # of emulator/runtime.h, in its order


class Build(enum.Enum):
    """How a program is watched."""

    PLAIN = "plain"  # poison, guards, checks of barriers and warps; results and schedules compared
    MEMORY = "memory"  # AddressSanitizer and UndefinedBehaviorSanitizer
    RACE = "race"  # ThreadSanitizer, every CUDA thread a thread of its own


FLAGS = {
    Build.PLAIN: ["-O2"],
    Build.MEMORY: [
        "-O1",
        "-fsanitize=address,alignment,bounds,shift,signed-integer-overflow,integer-divide-by-zero,float-cast-overflow",
        "-fno-sanitize-recover=all",
        "--param=asan-instrumentation-with-call-threshold=0",  # compiles in a third of the time
    ],
    Build.RACE: ["-O1", "-fsanitize=thread"],
}
RUNTIME_FLAGS = {
    Build.PLAIN: ["-O2"],
    Build.MEMORY: ["-O2", "-DEMULATOR_ASAN=1"],
    Build.RACE: ["-O2", "-DEMULATOR_TSAN=1"],
}
COMMON_FLAGS = ["-std=c++20", "-g1", "-Wno-unknown-pragmas", "-Wno-tsan"]
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",  # an error abandons fibers and what they own
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=66:history_size=4",
}
EXITS = {
    3: "emulator",
    4: "guard",
    5: "schedules",
    6: "input changed",
    66: "race",
}


class EmulationError(AssertionError):
    """What a run found, by whom it was found, and the text."""

    def __init__(self, detector: str, text: str):
        super().__init__(f"{detector}: {text}")
        self.detector = detector


@dataclasses.dataclass
class Out:
    """A buffer that the kernel writes; it is full of NaN before."""

    shape: tuple[int, ...]
    dtype: type = np.float32


@dataclasses.dataclass
class InOut:
    """A buffer that the kernel reads and writes."""

    value: np.ndarray


Argument = int | float | np.ndarray | Out | InOut


class Result(dict[str, np.ndarray]):
    """The buffers that were written, by name, and what the emulator counted."""

    def __init__(self, buffers: Mapping[str, np.ndarray], counts: Mapping[str, int]):
        super().__init__(buffers)
        self.counts = counts


def available() -> bool:
    """Whether there is a compiler; sanitizers come with it."""
    return shutil.which(COMPILER) is not None


def schedules(count: int, first_seed: int = 1) -> list[str]:
    """Return `count` schedules: in turn, run-ahead, and random ones of both kinds."""
    fixed = ["0:0", "1:0"]
    return (fixed + [f"{2 + seed % 2}:{seed}" for seed in range(first_seed, first_seed + count)])[:count]


def _machine_flags() -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    has_fma = cpuinfo.exists() and " fma " in cpuinfo.read_text()
    return ["-mfma"] if has_fma else []


def _compile(source: Path, flags: Sequence[str], depends_on: Iterable[Path]) -> Path:
    """Compile a source, unless the same text was compiled before; return the object file."""
    key = hashlib.sha256("\0".join([COMPILER, *flags]).encode())
    for file in sorted({source, *depends_on}):
        key.update(file.name.encode() + b"\0" + file.read_bytes())
    target = KEPT / f"{source.stem}-{key.hexdigest()[:24]}.o"
    if not target.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        # Under its name only when complete: what failed to build must never be mistaken for built.
        with tempfile.TemporaryDirectory(dir=KEPT) as folder:
            fresh = Path(folder) / target.name
            _call([COMPILER, *flags, "-x", "c++", "-c", str(source), "-o", str(fresh)])
            fresh.rename(target)
    return target


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise EmulationError("compiler", done.stderr[-4000:])


def build(kind: Build, entry: str) -> Path:
    """Return the program that runs the entries of `entries/ENTRY.cpp` over the kernels in csrc.

    mutants.py calls the tests again with SIMT_CSRC, a mutated copy of csrc, and SIMT_ONLY, the build to try.
    """
    csrc = Path(os.environ.get("SIMT_CSRC", ROOT / "csrc"))
    if os.environ.get("SIMT_ONLY", kind.value) != kind.value:
        raise unittest.SkipTest("another build is tried")
    emulator = sorted((HERE / "emulator").glob("*"))
    headers = [file for file in emulator if file.suffix == ".h"]
    kernels = [file for file in csrc.rglob("*") if file.suffix in {".h", ".cuh", ".cu"}]
    warnings = ["-Wall", "-Wextra", "-Werror"] if csrc == ROOT / "csrc" else ["-w"]
    common = [*COMMON_FLAGS, *warnings, *_machine_flags(), f"-I{HERE / 'emulator'}", f"-I{csrc}"]
    objects = [
        _compile(HERE / "emulator" / name, [*common, *RUNTIME_FLAGS[kind]], headers)
        for name in ("fibers.cpp", "runtime.cpp", "memory.cpp")
    ]
    watched = [*common, *FLAGS[kind]]
    objects.append(_compile(HERE / "emulator" / "driver.cpp", watched, headers))
    source = HERE / "entries" / f"{entry}.cpp"
    objects.append(_compile(source, watched, [*headers, *kernels]))
    key = hashlib.sha256("\0".join(o.name for o in objects).encode()).hexdigest()[:24]
    program = KEPT / f"{entry}-{kind.value}-{key}"
    if not program.exists():
        with tempfile.TemporaryDirectory(dir=KEPT) as folder:
            fresh = Path(folder) / program.name
            _call([COMPILER, *FLAGS[kind], *map(str, objects), "-o", str(fresh)])
            fresh.rename(program)
    return program


def _write_case(path: Path, arguments: Mapping[str, Argument]) -> None:
    with path.open("wb") as file:
        for name, value in arguments.items():
            if isinstance(value, bool | int):
                file.write(f"integer {name} {int(value)}\n".encode())
            elif isinstance(value, float):
                file.write(f"real {name} {value!r}\n".encode())
            elif isinstance(value, Out):
                bytes_ = int(np.prod(value.shape)) * np.dtype(value.dtype).itemsize
                file.write(f"out {name} {bytes_}\n".encode())
            else:
                role, array = ("inout", value.value) if isinstance(value, InOut) else ("in", value)
                file.write(f"{role} {name} {array.nbytes}\n".encode() + np.ascontiguousarray(array).tobytes())


def _read_result(path: Path, arguments: Mapping[str, Argument]) -> dict[str, np.ndarray]:
    buffers = {}
    with path.open("rb") as file:
        while line := file.readline():
            name, count = line.split()
            given = arguments[name.decode()]
            like = given.value if isinstance(given, InOut) else given
            assert isinstance(like, Out | np.ndarray)
            buffers[name.decode()] = np.frombuffer(file.read(int(count)), like.dtype).reshape(like.shape).copy()
    return buffers


def run(
    program: Path,
    entry: str,
    arguments: Mapping[str, Argument],
    under: Sequence[str] = ("2:1",),
    timeout_seconds: float = 120,
) -> Result:
    """Run an entry under each schedule; the buffers must come out bit-equal, and are returned.

    Raises:
        EmulationError: what was found, with its detector: emulator, guard, schedules, input changed, memory, race,
            crash or timeout.
    """
    environment = {**os.environ, **ENVIRONMENT}
    with tempfile.TemporaryDirectory() as folder:
        case, result = Path(folder) / "case", Path(folder) / "result"
        _write_case(case, arguments)
        command = [str(program), entry, str(case), str(result), *under]
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            raise EmulationError("timeout", f"{entry} did not end within {timeout_seconds} s") from None
        if done.returncode:
            sanitizer = "memory" if "Sanitizer" in done.stderr or "runtime error" in done.stderr else "crash"
            detector = EXITS.get(done.returncode, sanitizer)
            raise EmulationError(detector, done.stderr[:3000] or f"exit {done.returncode}")
        words = done.stdout.split()
        counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        return Result(_read_result(result, arguments), counts)
