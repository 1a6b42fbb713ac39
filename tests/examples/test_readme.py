"""The Python block of the README runs as printed; the files and options that documents name exist."""

import re
from pathlib import Path

import numpy as np
import pytest

from usvs.cli import build_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "csrc" / "README.md", *(ROOT / "docs").glob("*.md")])


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M)


@pytest.mark.slow
def test_the_python_block_of_the_readme_runs(tiny_archive, tmp_path, monkeypatch):
    import usvs

    usvs.index_archive(tiny_archive, tmp_path / "STORE")
    usvs.prepare_store(tmp_path / "STORE")
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
            words = command.replace("...", "").replace("…", "").replace("[", "").replace("]", "").split()
            if words and words[0].removeprefix(".venv/bin/") == "usvs":
                build_parser().parse_args(words[1:])
