"""Memory of a process, from the operating system."""

from pathlib import Path


def memory_mib(what: str) -> float:
    """Return a line of this process's status in MiB: its peak (VmHWM), or what is there now in no file (RssAnon).

    Not `ru_maxrss`: it starts with the value of the parent process.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024
