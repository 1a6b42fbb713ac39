"""docs/search.md: its Python block runs, and its figures are those of the stored results."""

import json
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "search.md"
ROW = re.compile(r"^\| ([^|]+) \| `?(\w+)`? \| ([\d.]+)(?: \(([\d.]+) to ([\d.]+)\))? \| ([\d.]+) \|$")
CHANCE = re.compile(r"^\| chance \| \| ([\d.]+) \| ([\d.]+) \|$")
FOUND = re.compile(r"^\| search, ([^|]+) \| \| ([\d.]+) \| \|$")


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


@pytest.mark.slow
def test_the_python_block_runs(shared_run, spoken_store, tmp_path, monkeypatch):
    shutil.copytree(shared_run, tmp_path / "RUN")
    (tmp_path / "STORE").symlink_to(spoken_store)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.S | re.M)
    names: dict = {}
    exec(compile(block, "search.md", "exec"), names)
    assert len(names["found"].moments) == 5 and len(names["names"]) == len(names["scores"]) == 32
    assert names["table"].num_rows == 32


def test_the_figures_are_those_of_the_stored_results():
    results, rows = None, 0
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if named := re.search(r"\]\((results/voice_\w+\.json)\)", line):
            results = json.loads((PAGE.parent / named[1]).read_text())
        if found := ROW.match(line):
            scores = results["measured"][found[1]][found[2]]
            assert (found[3], found[6]) == (percent(scores["top1"]), percent(scores["top3"])), line
            if found[4]:
                assert (found[4], found[5]) == (percent(scores["top1_low"]), percent(scores["top1_high"])), line
            rows += 1
        if found := CHANCE.match(line):
            assert found.groups() == (percent(results["chance"]["top1"]), percent(results["chance"]["top3"])), line
        if found := FOUND.match(line):
            assert found[2] == percent(results["search"]["precision"][found[1]]), line
            rows += 1
    assert rows >= 14
