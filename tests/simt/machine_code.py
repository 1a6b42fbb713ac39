"""What nvcc made of the kernels, read from the binary: registers, spills, shared memory, opcodes, occupancy."""

import collections
import dataclasses
import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.simt.emulate import COMPILER, HERE, KEPT

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
WIDE = re.compile(r"^(LDG|STG|LDS|STS)\b.*\.(64|128)\b")
INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel's machine code for one architecture."""

    name: str
    architecture: str
    registers: int
    stack_bytes: int
    local_bytes: int
    shared_bytes: int
    opcodes: Mapping[str, int]  # how often each occurs in the code, by its first word, and LDG.128 and the like


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a kernel may use and must contain."""

    threads: int
    dynamic_bytes: int
    registers: int  # at most
    blocks: Mapping[str, int]  # on a multiprocessor, at least, by architecture
    opcodes: Mapping[str, int] = dataclasses.field(default_factory=dict)  # at least


def tool(name: str) -> str | None:
    """Return where a CUDA binary tool is: on PATH, or where its PyPI package puts it."""
    found = importlib.util.find_spec("nvidia")
    folders = [Path(place) / "cu13" / "bin" for place in (found.submodule_search_locations or [])] if found else []
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)]))


def cuobjdump(binary: Path, *options: str) -> str:
    program, disassembler = tool("cuobjdump"), tool("nvdisasm")
    assert program and disassembler
    path = os.pathsep.join([str(Path(disassembler).parent), os.environ.get("PATH", "")])
    command = [program, *options, str(binary)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PATH": path})
    return done.stdout + done.stderr


@functools.lru_cache
def kernels(binary: Path, architecture: str) -> dict[str, Kernel]:
    """Return the kernels of a binary by their mangled names."""
    opcodes: dict[str, collections.Counter[str]] = {}
    counted: collections.Counter[str] = collections.Counter()
    for line in cuobjdump(binary, "-sass", "-arch", architecture).splitlines():
        if function := re.match(r"\s*Function : (\S+)", line):
            counted = opcodes.setdefault(function[1], collections.Counter())
        elif instruction := INSTRUCTION.match(line):
            counted[instruction[1].split(".")[0]] += 1
            if wide := WIDE.match(instruction[1]):
                counted[f"{wide[1]}.{wide[2]}"] += 1
    usage = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
    return {
        name: Kernel(name, architecture, int(reg), int(stack), int(local), int(shared), opcodes.get(name, {}))
        for name, reg, stack, shared, local in usage.findall(cuobjdump(binary, "-res-usage", "-arch", architecture))
    }


def code_in(binary: Path) -> set[str]:
    """Return which machine code (sm_90) and which PTX (ptx sm_100) a binary holds."""
    listed = cuobjdump(binary, "-lelf", "-lptx")
    elf, ptx = re.findall(r"\.(sm_\d+)\w*\.cubin", listed), re.findall(r"\.(sm_\d+)\w*\.ptx", listed)
    return {*elf, *(f"ptx {name}" for name in ptx)}


def cuda_headers() -> Path | None:
    """Return the folder of cuda_occupancy.h, which computes on the host alone."""
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), nvcc and Path(nvcc).resolve().parents[1], "/usr/local/cuda"]
    folders = [Path(home) / "include" for home in homes if home]
    return next((folder for folder in folders if (folder / "cuda_occupancy.h").exists()), None)


def occupancy(kernel: Kernel, budget: Budget) -> int:
    """Return how many blocks of a kernel a multiprocessor holds at once."""
    headers = cuda_headers()
    assert headers
    program = KEPT / "occupancy"
    if not program.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        fresh = program.with_suffix(f".{os.getpid()}")
        source = str(HERE / "occupancy.cpp")
        subprocess.run([COMPILER, "-O1", "-w", f"-I{headers}", source, "-o", str(fresh)], check=True)
        fresh.rename(program)
    numbers = (kernel.architecture[3:], kernel.registers, budget.threads, kernel.shared_bytes, budget.dynamic_bytes)
    done = subprocess.run([str(program), *map(str, numbers)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def check(kernel: Kernel, budget: Budget) -> None:
    """Hold a kernel to its budget; an AssertionError says what it breaks."""
    where = f"{kernel.name} on {kernel.architecture}"
    spilled = kernel.stack_bytes or kernel.local_bytes or kernel.opcodes.get("LDL") or kernel.opcodes.get("STL")
    assert not spilled, f"{where} spills: {kernel.stack_bytes} bytes of stack, {kernel.local_bytes} local"
    assert kernel.registers <= budget.registers, f"{where} takes {kernel.registers} registers, over {budget.registers}"
    for opcode, least in budget.opcodes.items():
        count = kernel.opcodes.get(opcode, 0)
        assert count >= least, f"{where} has {count} {opcode}, expected {least}"
    blocks, least = occupancy(kernel, budget), budget.blocks[kernel.architecture]
    assert blocks >= least, f"{where}: {blocks} blocks fit a multiprocessor, expected {least}"


def check_architectures(binary: Path, expected: Sequence[str]) -> None:
    """Hold a binary to the machine code and the PTX that it must carry."""
    missing = set(expected) - code_in(binary)
    assert not missing, f"{binary.name} lacks {sorted(missing)}"
