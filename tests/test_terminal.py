"""Names of files and cells of tables reach the terminal without control characters; what is private stays private."""

import ast
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

import usvs
from tests.support.commands import run_command
from tests.support.media_files import WriteVideo
from usvs.cli import main
from usvs.cli.log_handler import ConsoleHandler, print_result
from usvs.errors import DataError
from usvs.store.audit_archive import audit_archive
from usvs.store.contact_sheet import save_contact_sheets
from usvs.store.indexing import index_archive
from usvs.utils.private_files import make_private_folder, open_private

ROOT = Path(usvs.__file__).resolve().parents[1]
HOSTILE = "\x1b]0;pwned\x07\x1b[31m:x:[bold]\u202e\x9b2J"
TWO_LINES = "a\nusvs: all went well\r"


def run_in_colour(*arguments: str | Path) -> tuple[int, str]:
    """Run `usvs` in a process of its own whose output is that of a terminal."""
    command = [sys.executable, "-m", "usvs", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT), "FORCE_COLOR": "1"})
    return done.returncode, (done.stdout + done.stderr).decode("utf-8")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run_and_read(*arguments: str | Path) -> tuple[int, str]:
        code = run_command(*arguments)
        return code, "".join(capsys.readouterr())

    return run_and_read


def assert_is_safe(text: str) -> None:
    assert all(letter.isprintable() or letter in "\n\t" for letter in text), repr(text)
    assert "\u274c" not in text  # what rich makes of :x:


@pytest.mark.slow
def test_names_and_cells_are_escaped_in_every_command(make_video: WriteVideo, tmp_path: Path, run):
    folder = HOSTILE.replace("/", "")
    archive = make_video("good/a.mp4", count=60).parents[1]
    (archive / folder).mkdir()
    (archive / folder / f"{folder}.mp4").write_bytes(b"not a video")
    (archive / "good" / "a.planes.csv").write_text(f'start_seconds,end_seconds,plane\n0,"{HOSTILE}",femur\n')
    (archive / f"x.{folder}").write_bytes(b"")
    code, text = run_in_colour("index", archive, tmp_path / "store")
    assert code == 3
    assert_is_safe(text)
    assert r"\x1b]0;pwned\x07\x1b[31m:x:[bold]\u202e\x9b2J" in text
    code, text = run("audit", archive)
    assert code == 3
    assert_is_safe(text)
    (archive / "manifest.csv").write_text(f"scan,sector\na.mp4,{HOSTILE}\n")
    code, text = run("index", archive, tmp_path / "store2")
    assert code == 3
    assert_is_safe(text)
    for command in (
        ["index", tmp_path / HOSTILE, tmp_path / "s"],
        ["predict", HOSTILE],
        ["prepare", HOSTILE],
        [HOSTILE],
    ):
        code, text = run(*command)
        assert code != 0
        assert_is_safe(text)


def test_the_two_places_that_print_escape(capsys: pytest.CaptureFixture[str]):
    print_result(f"a {HOSTILE}\nb")
    ConsoleHandler().emit(logging.LogRecord("usvs", logging.INFO, "", 0, f"a {HOSTILE}\n\tb", None, None))
    printed = capsys.readouterr()
    for text, lines in ((printed.out, 2), (printed.err, 1)):
        assert_is_safe(text)
        assert ":x:[bold]" in text
        assert text.count("\n") == lines


@pytest.mark.parametrize(
    "command", ["predict", "index", "narrate", "audit", "finetune planes", "usvs", "argument", "empty"]
)
def test_the_end_of_a_line_in_a_name_does_not_end_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
):
    bad = tmp_path / f"{TWO_LINES}.mp4"
    bad.write_bytes(b"not a video")
    (tmp_path / TWO_LINES).mkdir()
    arguments = {
        "predict": ["predict", tmp_path / TWO_LINES / "no model", bad],
        "index": ["index", tmp_path, tmp_path.with_name("st")],
        "narrate": ["narrate", tmp_path, tmp_path / "n", "--labels", tmp_path / TWO_LINES, "--lexicon", bad],
        "audit": ["audit", tmp_path],
        "finetune planes": ["finetune", "planes", tmp_path / TWO_LINES, tmp_path / "f"],
        "usvs": [TWO_LINES],
        "empty": ["index", tmp_path / TWO_LINES, tmp_path.with_name("st")],
        "argument": ["index", tmp_path, tmp_path.with_name("st"), "--labels", tmp_path / TWO_LINES],
    }[command]
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    printed = "".join(capsys.readouterr())
    assert caught.value.code != 0 and TWO_LINES.encode("unicode_escape").decode() in printed
    assert_is_safe(printed)
    assert "\nusvs: all went well" not in printed


def test_an_error_of_several_lines_keeps_them(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    error = DataError(f"bad '{TWO_LINES}'", "  a", f"  {TWO_LINES}")
    assert str(error).startswith(f"bad '{TWO_LINES}'\n  a\n")
    monkeypatch.setattr("usvs.cli.check_paths", Mock(side_effect=error))
    with pytest.raises(SystemExit):
        main(["audit", str(tmp_path)])
    escaped = TWO_LINES.encode("unicode_escape").decode()
    assert capsys.readouterr().err == f"usvs: bad '{escaped}'\n  a\n  {escaped}\n"


@pytest.mark.slow
def test_only_the_log_handler_prints():
    for path in sorted((ROOT / "usvs").rglob("*.py")):
        if path.name not in ("log_handler.py", "__main__.py"):  # the latter where the handler cannot be imported
            calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"], path


def test_an_audit_of_an_archive_writes_nothing(make_video: WriteVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = make_video("p/a.mp4").parents[1]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    seen: list[list[Path]] = []
    monkeypatch.setattr(
        "usvs.store.audit_archive.draw_contact_sheets",
        lambda *_: seen.append(sorted(temporary.rglob("*"))) or (),
    )
    audit_archive(archive, tmp_path / "pictures", workers=1)
    assert seen == [[]]


def test_contact_sheets_are_private(make_video: WriteVideo, tmp_path: Path):
    archive = make_video("p/a.mp4", count=60).parents[1]
    index_archive(archive, tmp_path / "store", workers=1)
    pages = save_contact_sheets(tmp_path / "store", tmp_path / "pictures", workers=1)
    found, more = audit_archive(archive, tmp_path / "more" / "pictures", workers=1)
    assert found == ()
    for path in (*pages, *more, tmp_path / "pictures", tmp_path / "more" / "pictures"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_private_files(tmp_path: Path):
    os.umask(old := os.umask(0))
    try:
        os.umask(0)
        make_private_folder(tmp_path / "a" / "b")
        (tmp_path / "a" / "b" / "c").write_text("old")
        with open_private(tmp_path / "a" / "b" / "c", "a", encoding="utf-8") as file:
            file.write("new")
    finally:
        os.umask(old)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "b" / "c").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a" / "b" / "c").read_text() == "oldnew"


def test_nested_folders_are_no_recursion_error(
    make_video: WriteVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    archive = make_video("a.mp4", count=60).parent
    before = Path.cwd()
    os.chdir(archive)
    try:
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
        deep = Path("b.mp4")
        deep.write_bytes((archive / "a.mp4").read_bytes())
        index = index_archive(archive, tmp_path / "store", workers=1)
        assert index.found == 2
        assert index.usable == 2
        for _ in range(1000):  # 5,000 characters: longer than a path may be
            Path("d").mkdir()
            os.chdir("d")
        with pytest.raises(SystemExit) as caught:
            main(["index", str(archive), str(tmp_path / "store")])
        assert caught.value.code == 3
        assert "expected paths of at most 4096 bytes" in capsys.readouterr().err
    finally:
        os.chdir(before)
        subprocess.run(["rm", "-rf", str(archive / "d")], check=True)


@pytest.mark.slow
def test_index_names_file_and_line_and_ends_with_code_3(make_video: WriteVideo, tmp_path: Path, run):
    archive = make_video("p1/a.mp4", count=60).parents[1]
    make_video("p2/b.mp4", count=60)
    (archive / "p1" / "a.planes.csv").write_text("start_seconds,end_seconds,plane\n0,1,femur\n1,foot,femur\n")
    (archive / "p2" / "b.gaze.csv").write_text("time,x,y\n0,0.5,0.5\n")
    code, text = run("index", archive, tmp_path / "store")
    assert code == 3
    assert "index: 2 of 2 scans usable" in text
    assert "NOT USED: p1/a.planes.csv: plane labels, line 3: " in text and "'foot'" in text
    assert "NOT USED: p2/b.gaze.csv: gaze, line 1: unknown format: expected the columns timestamp_us" in text
    assert text.rstrip().splitlines()[-1].startswith("usvs: index: 2 tables of gaze or labels not used")
    code, again = run("index", archive, tmp_path / "store")  # nothing changed: said again
    assert (code, again.count("NOT USED: ")) == (3, 2)
    (archive / "p1" / "a.planes.csv").write_text("start_seconds,end_seconds,plane\n0,1,femur\n100,101,femur\n")
    (archive / "p2" / "b.gaze.csv").write_text("timestamp_us,x,y,valid\n0,0.5,0.5,1\n")
    code, text = run("index", archive, tmp_path / "store")
    assert code == 0
    assert "note (1 scan, 'p1/a.planes.csv'): plane labels: 1 of 2 intervals are outside of the scan" in text
    assert np.all([word not in text for word in ("NOT USED", "foot")])
