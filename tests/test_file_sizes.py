"""A file has at most 300 lines, or says at its beginning why it is one file."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("usvs", "csrc", "tests", "benchmarks", "examples", "setup.py", "CMakeLists.txt", "Makefile")
SUFFIXES = {".py", ".pyi", ".cpp", ".h", ".cu", ".cuh", ".txt", ""}
MOST_LINES = 300
REASON = "one file because"
OPENING_LINES = 20  # in which the reason is


def needs_a_reason(text: str) -> bool:
    lines = text.splitlines()
    opening = " ".join(" ".join(lines[:OPENING_LINES]).replace("//", " ").split())
    return len(lines) > MOST_LINES and REASON not in opening.lower()


def test_a_long_file_says_why():
    listed = subprocess.run(["git", "ls-files", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    sources = {path: path.read_text("utf-8") for path in paths if path.suffix in SUFFIXES and path.is_file()}
    found = [
        f"{path.relative_to(ROOT)}: {len(text.splitlines())} lines"
        for path, text in sources.items()
        if needs_a_reason(text)
    ]
    assert len(sources) > 300 and not found, f"split these, or state '{REASON} ...' in their docstrings: {found}"


def test_the_reason_is_read_from_the_opening():
    long = "x = 1\n" * (MOST_LINES + 1)
    assert needs_a_reason(long) and not needs_a_reason("x = 1\n" * MOST_LINES)
    assert not needs_a_reason('"""All of it.\n\nOne file because it is one table.\n"""\n' + long)
    assert not needs_a_reason("// The passes. One file\n// because they share a class.\n" + long)
    assert needs_a_reason(long + "# one file because\n")
