"""What `tests.connections` accepts and refuses."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.connections import outside_connections

ROOT = Path(__file__).resolve().parents[1]
LOCAL = """\
1 connect(3, {sa_family=AF_UNIX, sun_path="/run/nscd"}, 110) = -1 ENOENT
1 connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0
2 connect(3, {sa_family=AF_INET6, sin6_port=htons(9), inet_pton(AF_INET6, "::1", &sin6_addr)}, 28) = 0
2 connect(3, {sa_family=AF_NETLINK, nl_pid=0}, 12) = 0
2 +++ exited with 0 +++
"""
OUTSIDE = """\
1 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.127.0.1")}, 16) = 0
1 connect(3, {sa_family=AF_INET6, sin6_port=htons(9), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr)}, 28) = 0
"""


def test_addresses_of_this_machine_are_allowed():
    assert outside_connections(LOCAL) == []
    assert outside_connections(LOCAL + OUTSIDE) == OUTSIDE.splitlines()


@pytest.mark.slow
def test_a_connection_to_another_address_fails(tmp_path):
    """On an address of this machine that is not loopback; a datagram socket sends nothing when it is connected."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if "TracerPid:\t0\n" not in Path("/proc/self/status").read_text():
        pytest.skip("this test is traced itself")
    (tmp_path / "test_it.py").write_text(
        "import socket\n"
        "def test_it():\n"
        "    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "    try:\n"
        "        one.connect(('192.0.2.1', 9))\n"  # TEST-NET-1 of RFC 5737
        "    except OSError:\n"
        "        pass\n"
    )
    command = [sys.executable, "-m", "tests.connections", str(tmp_path), "-q", "--rootdir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 outside of this machine" in done.stdout and "192.0.2.1" in done.stdout
