"""The command line: all steps on a small archive, help texts, and one clear line for each mistake."""

import json
import math
import re
import shlex
from pathlib import Path

import pytest
from matplotlib.image import imread

from tests.support.commands import run_command
from usvs.cli import build_parser
from usvs.cli.reference import iter_commands

SMALL_MODEL = [
    "--set=model.frame_pixels=32",
    "--set=model.video.stem_width=8",
    "--set=model.speech.stem_width=8",
    "--set=optimiser.batch_clips=4",
    "--set=optimiser.epochs=2",
]


def fails_with_one_line(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    capsys.readouterr()
    assert run_command(*arguments) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("usvs: ")]
    assert len(lines) == 1, error
    return lines[0]


@pytest.mark.slow
def test_all_steps(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pretrained = tmp_path / "pretrained"
    assert (
        run_command(
            "pretrain", tiny_store, pretrained, "--profile", "quick", "--set=validation_fraction=0.5", *SMALL_MODEL
        )
        == 0
    )
    pixels = imread(pretrained / "plots" / "losses.png")[..., :3]
    assert (pixels < 0.9).any(axis=2).mean() > 0.005  # an empty figure is white
    records = [json.loads(line) for line in (pretrained / "metrics.jsonl").read_text().splitlines()]
    assert {"train", "validation"} <= {record["split"] for record in records}
    assert all(math.isfinite(record["total"]) for record in records if "total" in record)

    page = (pretrained / "report.html").read_text()
    assert "Retrieval" in page and "Not shown" not in page and str(tiny_store) not in page

    planes = tmp_path / "planes"
    starts = [
        "--init",
        "random",
        "--init",
        pretrained,
        "--patients",
        "held-out",
        "--set=folds=2",
        "--set=optimiser.epochs=1",
    ]
    assert run_command("finetune", "planes", tiny_store, planes, "--profile", "quick", *starts, *SMALL_MODEL[:3]) == 0
    table = capsys.readouterr().out
    assert "random" in table
    assert "pretrained" in table
    results = json.loads((planes / "results.json").read_text())
    assert set(results["inits"]) == {"random", "pretrained"}
    page = (planes / "report.html").read_text()
    assert "Confusion" in page and "predicted" in page and "Not shown" not in page
    assert run_command("report", tiny_store, "--out", tmp_path / "store.html") == 0
    assert "Not shown" not in (tmp_path / "store.html").read_text()
    assert all(0 <= init["finetune"]["f1"]["mean"] <= 1 for init in results["inits"].values())


def test_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "empty").mkdir()
    assert "empty" in fails_with_one_line(capsys, 3, "index", tmp_path / "empty", tmp_path / "store")


def test_archive_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "nowhere" in fails_with_one_line(capsys, 2, "index", tmp_path / "nowhere", tmp_path / "store")


def test_store_that_was_never_indexed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "usvs index" in fails_with_one_line(capsys, 3, "prepare", tmp_path)


def test_output_below_a_file(tiny_archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    message = fails_with_one_line(capsys, 2, "index", tiny_archive, tmp_path / "file" / "store")
    assert "file" in message


def test_misspelt_setting(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ("pretrain", tiny_store, tmp_path / "run", "--set", "optimiser.learningrate=1")
    assert "did you mean 'optimiser.learning_rate'" in fails_with_one_line(capsys, 2, *arguments)
    assert not (tmp_path / "run").exists()


def test_setting_out_of_range(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ("pretrain", tiny_store, tmp_path / "run", "--set", "clips.groups_per_clip=0")
    message = fails_with_one_line(capsys, 2, *arguments)
    assert "clips.groups_per_clip" in message
    assert "got 0" in message


def test_unknown_command(capsys: pytest.CaptureFixture[str]):
    assert "invalid choice" in fails_with_one_line(capsys, 2, "pretrian")


def test_a_run_folder_is_never_written_over(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine.txt").write_text("keep me")
    fails_with_one_line(capsys, 2, "pretrain", tiny_store, tmp_path, "--profile", "quick", *SMALL_MODEL)
    assert (tmp_path / "mine.txt").read_text() == "keep me"


COMMANDS = dict(iter_commands(build_parser()))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_for_each_option_and_an_example_that_parses(name: str):
    parser = COMMANDS[name]
    undocumented = [action.dest for action in parser._actions if not action.help]
    assert undocumented == [], f"{name}: no help for {undocumented}"
    assert parser.description, f"{name}: no description"
    examples = re.findall(rf"^ *({re.escape(name)} .*)$", str(parser.epilog), re.MULTILINE)
    assert examples, f"{name}: its help shows no example"
    for example in examples:
        build_parser().parse_args(shlex.split(example)[1:])


def test_the_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]):
    assert run_command("--help") == 0
    text = capsys.readouterr().out
    assert [int(code) for code in re.findall(r"^  (\d+) +\w", text, re.MULTILINE)] == [0, 2, 3, 4, 75, 130]


def test_an_example_of_the_main_help_parses():
    lines = [line.strip() for line in str(build_parser().epilog).splitlines() if line.strip().startswith("usvs ")]
    assert len(lines) == 4
    for line in lines:
        build_parser().parse_args(shlex.split(line)[1:])


@pytest.mark.slow
def test_index_prepare_and_audit_end_with_sentences(tiny_archive: Path, tmp_path: Path, capsys):
    store = tmp_path / "store"
    assert run_command("index", tiny_archive, store) == 0
    assert run_command("prepare", store, "--profile", "quick") == 0
    assert run_command("audit", store) == 0
    text = capsys.readouterr().err
    assert re.search(
        r"^index: 4 of 4 scans usable: 1\.6 minutes of video, 48 clips, \d+ of them with enough", text, re.M
    )
    assert "prepare: 4 scans prepared (768 frames, 1.6 minutes of video), 0 unchanged, 0 failed" in text
    assert "audit: 4 prepared scans checked, 0 problems found" in text


def test_the_summary_of_a_phantom_is_a_sentence(tmp_path: Path, capsys):
    out = tmp_path / "archive"
    assert run_command("phantom", out, "--patients", "1", "--workers", "1", "--set", "scan_seconds=2") == 0
    text = capsys.readouterr().err
    assert "phantom: 1 scan of 1 patient, 0.0 minutes of video (16 frames), " in text
    assert f"ground truth: {out}.ground_truth" in text
    assert "PhantomSummary" not in text


def test_a_settings_file_that_is_not_there(tiny_archive: Path, tmp_path: Path, capsys):
    missing = tmp_path / "settings.toml"
    message = fails_with_one_line(capsys, 2, "index", tiny_archive, tmp_path / "store", "--config", missing)
    assert message == f"usvs: settings file '{missing}' cannot be read: No such file or directory"
