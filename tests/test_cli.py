"""The command as a user meets it: the whole path in small, and one clear line for each mistake."""

import json
from pathlib import Path

import matplotlib.image
import pytest

from usvs.cli import main

SMALL_MODEL = [
    "--set=model.frame_pixels=32",
    "--set=model.video.stem_width=8",
    "--set=model.speech.stem_width=8",
    "--set=optimiser.batch_clips=4",
    "--set=optimiser.epochs=2",
]


def run(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def fails_with_one_line(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    capsys.readouterr()
    assert run(*arguments) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    said = [line for line in error.splitlines() if line.startswith("usvs: ")]
    assert len(said) == 1, error
    return said[0]


@pytest.mark.slow
def test_whole_path(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pretrained = tmp_path / "pretrained"
    assert (
        run("pretrain", tiny_store, pretrained, "--profile", "quick", "--set=validation_fraction=0.5", *SMALL_MODEL)
        == 0
    )
    pixels = matplotlib.image.imread(pretrained / "plots" / "losses.png")[..., :3]
    assert (pixels < 0.9).any(axis=2).mean() > 0.005  # an empty figure is white
    records = [json.loads(line) for line in (pretrained / "metrics.jsonl").read_text().splitlines()]
    assert any("total" in record for record in records)

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
    assert run("finetune", "planes", tiny_store, planes, "--profile", "quick", *starts, *SMALL_MODEL[:3]) == 0
    table = capsys.readouterr().out
    assert "random" in table
    assert "pretrained" in table
    assert (planes / "results.json").exists()


def test_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "empty").mkdir()
    assert "empty" in fails_with_one_line(capsys, 3, "index", tmp_path / "empty", tmp_path / "store")


def test_archive_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "nowhere" in fails_with_one_line(capsys, 3, "index", tmp_path / "nowhere", tmp_path / "store")


def test_store_that_was_never_indexed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "usvs index" in fails_with_one_line(capsys, 3, "prepare", tmp_path)


def test_output_below_a_file(tiny_archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    message = fails_with_one_line(capsys, 3, "index", tiny_archive, tmp_path / "file" / "store")
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


def test_unknown_verb(capsys: pytest.CaptureFixture[str]):
    assert "invalid choice" in fails_with_one_line(capsys, 2, "pretrian")


def test_a_run_folder_is_never_written_over(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine.txt").write_text("keep me")
    fails_with_one_line(capsys, 2, "pretrain", tiny_store, tmp_path, "--profile", "quick", *SMALL_MODEL)
    assert (tmp_path / "mine.txt").read_text() == "keep me"
