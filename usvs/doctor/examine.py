"""`usvs doctor`: every check, in the order in which one thing needs another."""

import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

from usvs.doctor.checks import Check
from usvs.doctor.packages import core_packages, optional_packages
from usvs.doctor.self_test import operation_checks

SECONDS = 20  # that a program may take to say its version


class Examination(NamedTuple):
    """Everything that was examined.

    Attributes:
        checks: one for each thing.
    """

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """What the core needs and does not have."""
        return tuple(check for check in self.checks if check.state == "failed")

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"ok": not self.failed, "checks": [check._asdict() for check in self.checks]}

    def __str__(self) -> str:
        """Return one line a check."""
        return "\n".join(map(str, self.checks))


def examine() -> Examination:
    """Examine packages, kernels, programs and devices; nothing is written and nothing is downloaded.

    Example:
        >>> print(usvs.doctor.examine())
    """
    core = tuple(core_packages())
    if any(check.state == "failed" for check in core):
        return Examination((*core, *_programs()))
    kernels = tuple(_kernels())
    works = all(check.state != "failed" for check in kernels)
    operations = tuple(operation_checks()) if works else ()
    return Examination((*core, *kernels, *operations, *optional_packages(), *_programs(), *_devices(works)))


def _kernels() -> Iterator[Check]:
    try:
        from usvs import ops

        info = ops.build_info()
    except Exception as error:  # a library that was not built, or for another Python or torch
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        yield Check("kernels", "compiled libraries", "failed", reason)
        return
    compiled = ", ".join(map(str, info["simd_compiled"]))
    yield Check("kernels", "SIMD", "ok", f"{info['simd']} in use; compiled: {compiled}")
    architectures = ", ".join(map(str, info["cuda_architectures"]))
    if architectures:
        yield Check("kernels", "CUDA architectures", "ok", architectures)
    else:
        yield Check("kernels", "CUDA architectures", "absent", "built without CUDA kernels")
    yield Check("kernels", "compiler", "ok", str(info["compiler"]))


def _programs() -> Iterator[Check]:
    try:
        import av

        versions = av.library_versions
        yield Check("program", "FFmpeg", "ok", f"libavcodec {'.'.join(map(str, versions['libavcodec']))}, inside of av")
    except Exception:  # absent, or a library that it is linked to
        yield _program("ffmpeg", "-version", "decoding is by the package av, which is not installed")
    yield _program("espeak-ng", "--version", "not needed: 'usvs phantom' uses the package espeakng-loader")


def _program(name: str, option: str, absent: str) -> Check:
    path = shutil.which(name)
    if path is None:
        return Check("program", name, "absent", absent)
    try:
        done = subprocess.run([path, option], capture_output=True, text=True, timeout=SECONDS, check=False)
        return Check("program", name, "ok", (done.stdout.splitlines() or ["version unknown"])[0])
    except (OSError, subprocess.SubprocessError) as error:
        return Check("program", name, "absent", f"cannot be started ({error})")


def _devices(kernels_work: bool) -> Iterator[Check]:
    import torch

    threads = torch.get_num_threads()
    yield Check("device", "CPU", "ok", f"{threads} threads, {torch.backends.cpu.get_cpu_capability()}")
    if not torch.cuda.is_available():
        reason = "torch is built without CUDA" if torch.version.cuda is None else "torch finds none"
        yield Check("device", "GPU", "absent", f"{reason}: everything runs on the CPU")
        return
    for number in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(number)
        memory = found.total_memory / 2**30
        yield Check(
            "device", f"GPU {number}", "ok", f"{found.name}, sm_{found.major}{found.minor}, {memory:.0f} GiB of memory"
        )
    if kernels_work:
        from usvs import ops

        if ops.build_info()["cuda_architectures"]:
            yield from operation_checks("cuda")
