"""Every code block of the documents: Python runs where it is listed here and compiles everywhere; names of usvs exist.

Commands are parsed by `test_readme.py`; tables of other languages (TOML, CSV) have no mark of their language.
"""

import ast
import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import usvs
from tests.support.exports import small_encoder

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "csrc" / "README.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", flags=re.S | re.M)
NOTEBOOK = ROOT / "examples" / "first_hour.ipynb"
LANGUAGES = {"", "python", "text"}


def python_blocks() -> list[tuple[str, int, str]]:
    found = []
    for page in PAGES:
        blocks = [
            code for language, code in FENCE.findall(page.read_text("utf-8")) if language.split()[:1] == ["python"]
        ]
        found += [(str(page.relative_to(ROOT)), number, code) for number, code in enumerate(blocks)]
    return found


BLOCKS = python_blocks()


def names_of_usvs(tree: ast.AST) -> list[str]:
    """Return the dotted names below `usvs` that a program reads, and the modules that it imports."""
    dotted = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found = [name for name in dotted if re.fullmatch(r"usvs(\.\w+)+", name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "usvs":
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def resolve(name: str) -> object:
    first, *rest = name.split(".")
    found: object = importlib.import_module(first)
    for depth, part in enumerate(rest, 2):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = importlib.import_module(".".join(name.split(".")[:depth]))
    return found


@pytest.mark.parametrize(("page", "number", "code"), BLOCKS, ids=[f"{page}-{number}" for page, number, _ in BLOCKS])
def test_python_compiles_and_its_names_exist(page, number, code):
    tree = ast.parse(code)
    for name in names_of_usvs(tree):
        resolve(name)


def test_an_unknown_name_is_found():
    (name,) = names_of_usvs(ast.parse("usvs.load_encodre('RUN')"))
    with pytest.raises(ModuleNotFoundError):
        resolve(name)


def test_fences_are_of_known_languages():
    found = {
        (str(page.relative_to(ROOT)), language)
        for page in PAGES
        for language, _ in FENCE.findall(page.read_text("utf-8"))
        if (language.split() or [""])[0] not in LANGUAGES
    }
    assert not found


def test_the_operations_of_the_readme_run():
    (block,) = [code for page, _, code in BLOCKS if page == "README.md" and "log_spectrogram" in code]
    names = {"waveform": torch.randn(2, 14400), "self_index": torch.arange(3)}
    shapes = {"anchors": 3, "positives": 3, "hard_negatives": 3, "candidates": 9}
    names |= {name: torch.randn(rows, 16) for name, rows in shapes.items()}
    exec(compile(block, "README.md", "exec"), names)
    assert names["spectrogram"].shape == (2, 1, 256, 256) and names["losses"].shape == (3,)


@pytest.mark.slow
def test_the_python_of_the_page_on_export_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = small_encoder()
    usvs.save_encoder("RUN", encoder)  # in place of a run: read in the same way
    block = next(code for page, _, code in BLOCKS if page == "docs/export.md" and "export_model" in code)
    names: dict = {}
    exec(compile(block, "export.md", "exec"), names)
    images = encoder.preprocess(np.zeros((2, 40, 40), np.uint8))
    with torch.no_grad():
        assert torch.equal(names["encoder"](images), encoder(images)) and names["scripted"].difference == 0


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    """Its cells in order, in one namespace and a new folder, at the size that the first cell says."""
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(sources) >= 6 and not any(cell.get("outputs") for cell in cells)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names: dict = {"PATIENTS": 4, "SCAN_SECONDS": 24, "EPOCHS": 1}
    for number, source in enumerate(sources):
        kept = source if number else "import usvs"  # the first cell sets the sizes
        exec(compile(kept, f"cell {number}", "exec"), names)
    assert names["table"].num_rows > 0 and names["exported"].difference == 0


def test_the_citation_names_the_paper_and_the_version():
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    assert "10.1007/978-3-030-59716-0_51" in text and f"version: {usvs.__version__}\n" in text
    authors = re.findall(r"family-names: (\w+)", text)
    assert authors == ["Jiao", "Cai", "Alsharid", "Drukker", "Papageorghiou", "Noble"]


def test_the_changelog_begins_with_what_is_unreleased_and_has_this_version():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.M)
    assert headings[0] == "Unreleased" and usvs.__version__ in headings
