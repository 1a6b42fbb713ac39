import getpass
import json
import socket
import subprocess
from pathlib import Path

import torch

import usvs
from usvs.training.environment import describe_environment, git_revision


def test_it_says_what_decides_bits_and_no_names():
    text = json.dumps(described := describe_environment(torch.device("cpu")))
    assert described["packages"]["torch"] == torch.__version__
    assert described["threads"] == torch.get_num_threads()
    for name in (socket.gethostname(), f"/{getpass.getuser()}"):
        assert name not in text


def test_a_change_anywhere_in_the_package_is_in_the_revision(monkeypatch):
    asked = []
    monkeypatch.setattr("usvs.training.environment.git_revision", lambda folder: asked.append(folder) or "x")
    describe_environment(torch.device("cpu"))
    assert asked == [Path(usvs.__file__).parent]


def test_git_revision(tmp_path):
    assert git_revision(tmp_path) is None
    who = ["-c", "user.name=x", "-c", "user.email=x@x"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    clean = git_revision(tmp_path)
    assert clean is not None and len(clean) == 40
    (tmp_path / "file").write_text("2")
    assert git_revision(tmp_path) == f"{clean}+changes"
