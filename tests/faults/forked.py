"""A function in a forked process that has loaded everything already: a fault costs milliseconds and cannot spread."""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import tests.support.loaded_before_fork  # noqa: F401


@dataclass(frozen=True)
class Ended:
    """How a forked call ended.

    Attributes:
        code: exit code, negative for a signal.
        value: what the call returned, if it did.
        seconds: its duration.
        timed_out: whether it was killed after the time limit.
    """

    code: int
    value: dict[str, str] | None
    seconds: float
    timed_out: bool = False


def run_forked(
    call: Callable[[], dict[str, str]], limit_seconds: float, before: Callable[[], None] | None = None
) -> Ended:
    """Run a call in a fork of this process and return its value; its own output is dropped.

    Args:
        call: what is run.
        limit_seconds: after which the process is killed.
        before: run in the fork first, for example to arrange its end.
    """
    readable, writable = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if not child:
        os.close(readable)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, sys.stdout.fileno())
        os.dup2(silence, sys.stderr.fileno())
        code = 1
        try:
            if before is not None:
                before()
            os.write(writable, json.dumps(call()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writable)
    content, timed_out = b"", False
    try:
        while True:
            remaining = limit_seconds - (time.monotonic() - started)
            ready, _, _ = select.select([readable], [], [], max(0.0, remaining))
            if not ready:
                os.kill(child, signal.SIGKILL)
                timed_out = True
                break
            block = os.read(readable, 1 << 16)
            if not block:
                break
            content += block
    finally:
        os.close(readable)
    _, status = os.waitpid(child, 0)
    value = json.loads(content) if content else None
    return Ended(os.waitstatus_to_exitcode(status), value, time.monotonic() - started, timed_out)
