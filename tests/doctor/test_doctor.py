"""`usvs doctor`: every check, and what it says where something is missing or wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from usvs.cli import main
from usvs.doctor import Check, examine, self_test
from usvs.doctor import packages as packages_module
from usvs.utils.dependencies import EXTRA_OF_MODULE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]


def test_every_operation_agrees_with_its_reference():
    from usvs import ops

    found = list(self_test.operation_checks())
    assert [check for check in found if check.state != "ok"] == []
    referenced = {name for name in ops.__all__ if f"{name}_reference" in ops.__all__}
    assert {check.name for check in found} == referenced


def test_a_wrong_operation_fails(monkeypatch):
    from usvs import ops

    right = ops.frame_energy
    monkeypatch.setattr(ops, "frame_energy", lambda *arguments: right(*arguments) * 1.001)
    monkeypatch.setattr(ops, "energy_threshold", lambda *arguments: 1 / 0)
    monkeypatch.setattr(ops, "fixation_statistics", lambda *arguments: right(arguments[0], 1) * float("nan"))
    found = {check.name: check for check in self_test.operation_checks()}
    assert found["frame_energy"].state == "failed" and "1.0e-03" in found["frame_energy"].detail
    assert found["energy_threshold"].detail == "expected a result, got ZeroDivisionError: division by zero"
    assert found["fixation_statistics"].state == "failed"
    assert found["log_spectrogram"].state == "ok"


@pytest.mark.slow
def test_the_command_prints_a_line_a_check_and_json(capsys):
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 30 and all(line.split()[0] in ("ok", "absent") for line in lines)
    main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] and len(found["checks"]) == len(lines)
    assert set(found["checks"][0]) == {"group", "name", "state", "detail"}


def test_a_failed_check_ends_with_exit_code_4(monkeypatch, capsys):
    monkeypatch.setattr(packages_module, "CORE", ("numpy>=99", "nothing_of_this_name>=1", "torch>=2.11"))
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    assert left.value.code == 4
    shown = capsys.readouterr()
    assert "expected at least 99, got " in shown.out and "pip install 'nothing_of_this_name>=1'" in shown.out
    assert "doctor: 2 checks failed: numpy, nothing_of_this_name" in shown.err


@pytest.mark.slow
def test_kernels_that_were_not_built_are_one_line(monkeypatch):
    from usvs import ops
    from usvs.errors import MissingDependencyError

    def fail():
        raise MissingDependencyError("usvs._C cannot be loaded (no such file)\nsecond line")

    monkeypatch.setattr(ops, "build_info", fail)
    found = examine()
    assert [str(check.detail) for check in found.failed] == ["usvs._C cannot be loaded (no such file)"]
    assert not any(check.group == "operation" for check in found.checks)


def test_the_core_packages_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(packages_module.CORE) == sorted(one for one in project["dependencies"] if ";" not in one)


def test_every_optional_package_has_a_purpose():
    assert set(packages_module.PURPOSES) == set(EXTRA_OF_MODULE)


@pytest.mark.slow
def test_without_a_package_of_the_parser_the_command_still_says_what_is_missing(tmp_path):
    (tmp_path / "rich.py").write_text("raise ModuleNotFoundError(\"No module named 'rich'\", name='rich')\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    for arguments, expected in ((["doctor"], "failed  core       rich"), (["--help"], "type 'usvs doctor'")):
        command = [sys.executable, "-m", "usvs", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 4 and "Traceback" not in done.stderr
        assert expected in done.stdout + done.stderr


def test_lines_have_columns():
    assert str(Check("core", "torch", "ok", "2.13")) == "ok      core       torch                     2.13"
