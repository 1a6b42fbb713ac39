"""Runs tests under strace and fails on any connection outside of loopback: `make connections`.

    python -m tests.connections tests/training tests/store

Every connect() of the tests and of the processes that they start is read. Sockets of the same machine (AF_UNIX,
netlink, 127.0.0.0/8, ::1) are allowed.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from tests.support.results import save_result

LOOPBACK = re.compile(r'sin_addr=inet_addr\("127\.|inet_pton\(AF_INET6, "(::1|::ffff:127\.[\d.]+)"')
LOCAL_FAMILIES = ("AF_UNIX", "AF_LOCAL", "AF_NETLINK", "AF_UNSPEC")


def outside_connections(trace: str) -> list[str]:
    """Return the lines of a trace of connect() whose address is not of this machine."""
    calls = [line for line in trace.splitlines() if "connect(" in line and "sa_family=" in line]
    local = tuple(f"sa_family={family}" for family in LOCAL_FAMILIES)
    return [line for line in calls if not LOOPBACK.search(line) and not any(family in line for family in local)]


def main() -> None:
    """Run pytest with the arguments under strace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the counts, with revision, to this JSON file")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT", help="of pytest: folders, -m, -k")
    options = parser.parse_args()
    strace = shutil.which("strace")
    if strace is None:
        sys.exit("connections: strace is missing; install it with: apt-get install strace")
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        only_connect = ["-f", "-qq", "--seccomp-bpf", "-e", "trace=connect"]  # other calls run at full speed
        command = [strace, *only_connect, "-o", str(trace), sys.executable, "-m", "pytest"]
        report = Path(folder) / "tests.xml"
        code = subprocess.call([*command, "-p", "no:cacheprovider", f"--junit-xml={report}", *options.arguments])
        text = trace.read_text(encoding="utf-8", errors="replace")
        tests = next(ElementTree.parse(report).getroot().iter("testsuite")).attrib if report.is_file() else {}
    found, calls = outside_connections(text), sum("connect(" in line for line in text.splitlines())
    print(f"connections: {calls} calls of connect(), {len(found)} outside of this machine")
    print("\n".join(found))
    if options.out is not None:
        counts = {name: int(tests.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
        save_result(options.out, {"pytest": options.arguments, **counts, "calls": calls, "outside": len(found)})
    sys.exit(code or bool(found))


if __name__ == "__main__":
    main()
