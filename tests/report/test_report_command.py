"""The command `usvs report`: what it prints, and its exit codes."""

import json

import pytest

from usvs.cli import main


def run(*arguments):
    with pytest.raises(SystemExit) as left:
        main(["report", *map(str, arguments)])
    return left.value.code


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"profile": "quick", "run": {"seed": 7}}))
    return tmp_path


def test_it_names_the_file_and_its_size(folder, capsys):
    main(["report", str(folder)])
    assert capsys.readouterr().out == f"report: '{folder / 'report.html'}' (0.0 MB)\n"
    assert "Pretraining: 0 steps, profile quick, seed 7" in (folder / "report.html").read_text()


def test_out_names_another_file(folder, capsys):
    main(["report", str(folder), "--out", str(folder / "other page.html")])
    assert (folder / "other page.html").exists() and not (folder / "report.html").exists()


def test_exit_codes(folder, tmp_path, capsys):
    assert run(tmp_path / "nowhere") == 3
    assert run(folder, "--labels", "labels.csv") == 2
    assert run(folder, "--out", folder) == 2
    assert run(folder, "--out", folder / "missing" / "page.html") == 4
    assert run(folder, "--unknown") == 2
    assert "Traceback" not in capsys.readouterr().err
