"""What a command would do, need and refuse, without doing it (``--dry-run``)."""

import os
import resource
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usvs.errors import ResourceError, UsvsError
from usvs.utils.text import printable, size_text


@dataclass(frozen=True)
class Preview:
    """The result of a dry run.

    Attributes:
        command: name of the command.
        lines: sentences for a person.
        figures: the same for a program: counts, bytes, seconds.
        refusals: why the command would end with an error; empty: it would not, as far as can be known.
    """

    command: str
    lines: tuple[str, ...]
    figures: Mapping[str, Any]
    refusals: tuple[UsvsError, ...] = ()

    def __str__(self) -> str:
        refused = [
            line for error in self.refusals for line in (f"  would be refused: {error.args[0]}", *error.args[1:])
        ] or ["  nothing would be refused"]
        lines = [printable(line) for line in (*(f"  {line}" for line in self.lines), *refused)]
        return "\n".join([f"{self.command}: dry run, nothing is written", *lines])

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        refused = [{"reason": str(error), "exit_code": error.exit_code} for error in self.refusals]
        return {"command": self.command, "dry_run": True, **self.figures, "refused": refused}


def free_bytes(path: Path) -> int:
    """Return the free space of the disk that a path is on; it need not exist yet."""
    existing = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    return shutil.disk_usage(existing).free


def check_disk(path: Path, needed: float) -> list[UsvsError]:
    """Return an error if a disk has less free space than is needed."""
    free = free_bytes(path)
    if needed <= free:
        return []
    return [
        ResourceError(f"disk of '{path}': expected at least {size_text(needed)} free, got {size_text(free)}: free some")
    ]


def peak_memory_bytes() -> int:
    """Return the largest memory that this process has used so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def available_memory_bytes() -> int:
    """Return the memory that processes can still have; all of the machine's where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        values = dict(line.split(":", 1) for line in lines)
        return int(values["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return total_memory_bytes()


def total_memory_bytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
