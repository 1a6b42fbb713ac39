"""The commands reproduce, curves and probe-video, with stand-ins for pretraining and measuring."""

import json

import pytest

from tests.support.commands import run_command
from tests.support.experiment_stubs import stub_measuring, stub_pretraining
from usvs.models.settings import EncoderSettings

QUICK = ["--profile", "quick"]


@pytest.fixture
def calls(monkeypatch):
    calls = stub_pretraining(monkeypatch, EncoderSettings())
    stub_measuring(monkeypatch, calls)
    return calls


def test_the_preset_evidence_is_a_way_to_reproduce(grating_store, tmp_path, calls, capsys):
    out = tmp_path / "out"
    options = [*QUICK, "--preset", "evidence", "--seeds", 2, "--set=planes.folds=2", "--set=few_patients=1"]
    assert run_command("reproduce", grating_store, out, *options) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("macro F1 in %, mean ± standard deviation over 2 seeds x 2 patient folds")
    assert f"figure: {out / 'evidence.png'}" in captured.err and (out / "evidence.png").is_file()
    results = json.loads((out / "results.json").read_text())
    assert results["settings"]["preset"] == "evidence" and results["settings"]["profile"] == "quick"
    assert {protocol for _, protocol, _ in calls.measured} == {"probe", "finetune"}
    assert run_command("evidence", grating_store, out) == 2  # the command that it was


def test_a_folder_of_other_settings_is_one_line(grating_store, tmp_path, calls, capsys):
    options = ["reproduce", grating_store, tmp_path / "out", *QUICK, "--preset", "evidence", "--seeds", 1]
    options += ["--set=planes.folds=2", "--set=few_patients=1"]
    assert run_command(*options) == 0
    capsys.readouterr()
    assert run_command(*options, "--set=ceiling_epochs=3") == 2
    error = capsys.readouterr().err
    assert "settings.ceiling_epochs: expected 12, got 3; choose a new folder" in error and "Traceback" not in error


def test_curves_take_fractions(grating_store, tmp_path, calls, capsys):
    options = [*QUICK, "--fractions", "0.1,1", "--seeds", 1, "--set=folds=2"]
    assert run_command("curves", grating_store, tmp_path / "out", *options) == 0
    captured = capsys.readouterr()
    assert "1 patients" in captured.out and "3 patients" in captured.out
    assert (tmp_path / "out" / "curves.png").is_file()
    assert run_command("curves", grating_store, tmp_path / "out", *QUICK, "--fractions", "2") == 2
    assert "--fractions: expected numbers greater than 0 and at most 1" in capsys.readouterr().err


def test_probe_video_names_the_columns_that_it_expects(grating_store, tmp_path, capsys):
    (tmp_path / "labels.csv").write_text("name,label,source_id\n0.mp4,a,1\n")
    options = ["--labels", tmp_path / "labels.csv", "--classes", "a,b"]
    assert run_command("probe-video", grating_store, tmp_path / "out", *options, "--columns", "a,b") == 2
    assert "--columns: expected three names, FILE,LABEL,SOURCE, got 'a,b'" in capsys.readouterr().err
    assert run_command("probe-video", grating_store, tmp_path / "out", *options) == 3
    assert (
        "expected a column 'file', got 'label', 'source_id', 1 other column of unknown name" in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["reproduce", "curves", "probe-video"])
def test_help_shows_every_option_and_an_example(command, capsys):
    assert run_command(command, "--help") == 0
    text = capsys.readouterr().out
    assert "example:\n  usvs " in text and "--set NAME=VALUE" in text
