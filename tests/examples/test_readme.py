"""The Python block of the README runs as printed; the files and options that documents name exist."""

import re
import shlex
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import run_command
from tests.support.media_files import write_video
from tests.support.speech_like import RATE_HZ, speech_like
from usvs.cli import build_parser, main

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "csrc" / "README.md", *(ROOT / "docs").glob("*.md")])


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M)


@pytest.mark.slow
def test_the_python_block_of_the_readme_runs(tiny_store, tmp_path, monkeypatch):
    shutil.copytree(tiny_store, tmp_path / "STORE")
    monkeypatch.chdir(tmp_path)
    block = next(block for block in code_blocks(ROOT / "README.md", "python") if "usvs.pretrain" in block)
    names = {"images": np.full((2, 80, 80), 90, np.uint8)}
    exec(compile(block, "README.md", "exec"), names)
    assert len(names["loader"]) >= 1 and names["features"].shape == (2, names["encoder"].num_features)
    assert "f1" in str(names["scores"]).lower()
    assert {"features", "scan", "patient", "seconds", "label"} <= set(names["table"].column_names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:usvs|csrc|tests|examples|docs|benchmarks)/[\w/.]+\.(?:py|md|h|cpp|cu|cuh))`", text)
    linked = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in link]
    missing = [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    missing += [link for link in linked if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_a_page_shows_are_accepted(page: Path):
    fenced, lines = False, []
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        fenced ^= line.startswith("```")
        lines += [line] if fenced or line.startswith("    ") else []
    for line in lines:
        for command in re.sub(r"\s+#.*", "", line).split("&&"):
            plain = command.replace("...", "").replace("…", "").replace("[", "").replace("]", "").strip()
            if plain.removeprefix(".venv/bin/").startswith("usvs "):
                build_parser().parse_args(shlex.split(plain)[1:])


def write_narrated_clips(folder: Path, patients: int) -> None:
    """Write silent clips of three classes with speech beside them as .wav, and labels.csv; a folder per patient."""
    rng, rows = np.random.default_rng(0), ["file,label,patient"]
    for number in range(patients):
        name, label = f"P{number:02d}/clip.mp4", ("covid", "pneumonia", "regular")[number % 3]
        (folder / name).parent.mkdir(parents=True)
        pictures = [rng.integers(0, 90 + 40 * (number % 3), (64, 64)) for _ in range(80)]
        write_video(folder / name, pictures=pictures, rate=10)
        speech = (20_000 * speech_like(1, 8 * RATE_HZ, number)[0]).numpy().astype("<i2")
        with wave.open(str((folder / name).with_suffix(".wav")), "wb") as file:
            file.setparams((1, 2, RATE_HZ, len(speech), "NONE", ""))
            file.writeframes(speech.tobytes())
        rows.append(f"{name},{label},p{number}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.slow
def test_the_ten_commands_of_the_readme_run(tmp_path, monkeypatch):
    """From a folder of clips to a report and an export, as printed but for names, epochs and compilation."""
    pytest.importorskip("espeakng_loader")
    write_narrated_clips(tmp_path / "ARCHIVE", 15)
    (tmp_path / "classes.txt").write_text("covid\npneumonia: pneumonia, consolidation\nregular\n")
    monkeypatch.chdir(tmp_path)
    commands = next(block for block in code_blocks(ROOT / "README.md", "") if "usvs index" in block).splitlines()
    assert len(commands) == 10
    for command in commands:
        words = shlex.split(
            command.replace("VIDEO", "ARCHIVE/P00/clip.mp4").replace("epochs=100", "epochs=1"), comments=True
        )
        if words[1] in ("pretrain", "finetune"):
            words += ["--set", "run.compile=eager", "--set", "optimiser.epochs=1"]
        assert run_command(*words[1:]) == 0, command
    made = (
        "SHEETS/sectors.csv",
        "RUN/report.html",
        "OUT/report.html",
        "predictions.csv",
        "by_voice.csv",
        "FOUND/search.png",
    )
    assert not [name for name in (*made, "ENCODER/README.md") if not (tmp_path / name).is_file()]


@pytest.mark.slow
def test_the_commands_and_the_python_of_own_labels_run(tmp_path, monkeypatch, capsys):
    """On tiny clips in the place of the lung clips; every line of the page's first block, and its Python."""
    rng, page, rows = np.random.default_rng(0), ROOT / "docs" / "own_labels.md", ["file,label,source_id,licence"]
    (tmp_path / "lung_videos").mkdir()
    for number, label in enumerate(("covid", "pneumonia", "regular") * 4):
        name = "clip.mp4" if number == 0 else f"clip {number}.mp4"
        pictures = [rng.integers(0, 90 + 40 * (number % 3), (64, 64)) for _ in range(16)]
        write_video(tmp_path / "lung_videos" / name, pictures=pictures)
        rows.append(f"{name},{label},{number // 2},CC BY")
    (tmp_path / "lung_videos.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)
    commands = code_blocks(page, "")[0].splitlines()
    assert len(commands) == 5
    for command in commands:
        main(shlex.split(command.replace("epochs=20", "epochs=1 --set run.compile=eager"))[1:])
    assert "clip.mp4\t" in capsys.readouterr().out
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 3
    assert (tmp_path / "timelines" / "clip.png").exists() and (tmp_path / "predictions.parquet").exists()
    shutil.rmtree(tmp_path / "store")
    (block,) = code_blocks(page, "python")
    block = block.replace('{"epochs": 1}', '{"epochs": 1}, run={"compile": "eager"}')
    exec(compile(block, "own_labels.md", "exec"), {})
    assert "over 3 folds" in capsys.readouterr().out
