"""Terms of style.md's left column do not come back: file names, code, comments, messages and documents are searched."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("usvs", "csrc", "tests", "benchmarks", "examples", "docs")
FILES = ("README.md", "setup.py", "CMakeLists.txt", "Makefile")
SUFFIXES = {".py", ".pyi", ".md", ".cpp", ".h", ".cu", ".cuh", ".txt", ""}
STORED = ("docs/results/",)  # written by earlier revisions, in their words

TERMS = {
    r"\bput aside\b": "skipped, with a reason",
    r"\b(pairs|orders?) told\b": "pair accuracy, order accuracy",
    r"\btold apart\b|\bis told\b|\bare told\b|\btells\b|\btold\b": "predicted, output, reported",
    r"\bheard\b": "played, in training, seen (of voices)",
    r"\bwanted\b": "expected",
    r"\brooms? of the house\b|\bthe house\b|\bhouse style\b": "package, layer",
    r"\bwho decodes\b|\bwhere (a|the) (step|time)('s time)? goes\b": "data-loading backend, profile of a training step",
    r"\bwhole and apart\b": "store integrity and patient separation",
    r"\b(a|the|its|every|each|this|that|one|no|of|convex|linear|phased|whole|inner|draw|find) fans?\b": "sector",
    r"\binner box\b": "inscribed crop",
    r"\bhonest (media|file|video)": "encoded media",
    r"\bPlants?\b|\bplanted\b|\bmake plants\b|\bmake stops\b": "mutants, interruption tests",
    r"\bvary_frames\b|\bVariation\b|\blook_into\b|\bScanFacts\b|\bHeard\b|\bCells\b|\bPartedTask\b": "see style.md",
    r"\blooked into\b|\bgo on with\b|\bgoes on with\b": "inspected, resume",
    r"\b(stands?|lies) (in|beside|above|below|at|on|there|here|where|before|under|between)\b": "is in, is beside, ...",
    r"\banchor_behind\b|\bstruct (Cut|Share|Sides|Step)\b": "SplitPlan, BlockTile, Operands, KStep",
    r"\bheld[- ]out loss": "validation loss",
    r"\brefill": "resample_invalid_pairs",
}


def files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *FOLDERS, *FILES], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.splitlines() if not name.startswith(STORED)]
    return [path for path in paths if path.suffix in SUFFIXES and path != Path(__file__) and path.is_file()]


@pytest.mark.parametrize("pattern", TERMS, ids=lambda pattern: pattern[:30])
def test_no_private_term_is_used(pattern: str):
    expression = re.compile(pattern)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if expression.search(line)
    ]
    assert not found, f"use '{TERMS[pattern]}' ({len(found)} places):\n" + "\n".join(found[:40])
