"""Mutation tests of the CUDA kernels: change the kernels in one place at a time, and see which test detects it.

    python -m tests.simt.mutants                       every mutant, every detector, as a table
    python -m tests.simt.mutants --until-detected      every mutant until a detector finds it: a third of the time
    python -m tests.simt.mutants --every 12            every 12th mutant until detected

Mutants are made in copies of csrc/kernels/*.cuh (mutation_sites.py); the tests that run are test_NAME.py, unchanged.
"""

import argparse
import collections
import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.simt.emulate import HERE, KEPT, ROOT, Build, EmulationError, build
from tests.simt.mutated_copy import Mutant, mutated_copy

# Equivalent mutants (no test can detect them), and why.
EXPLAINED: dict[str, str] = json.loads((HERE / "explained_mutants.json").read_text())
DETECTORS = ("numerics", "schedules", "emulator", "guard", "input changed", "crash", "timeout", "memory", "race")
COPY = KEPT / "mutated"


class FirstFailure:
    """Runs the most relevant tests first, and keeps the detector of the first failure."""

    def __init__(self, file: str) -> None:
        self.detector = ""
        self.first = ("panels",) if "panels" in file else ("gradient", "backward") if "backward" in file else ("",)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: not any(word in item.name for word in self.first))

    def pytest_exception_interact(self, call: pytest.CallInfo[Any]) -> None:
        error = call.excinfo.value if call.excinfo else None
        if not self.detector:
            self.detector = error.detector if isinstance(error, EmulationError) else "numerics"


@dataclasses.dataclass
class Outcome:
    """What detected a mutant: for each build, the first detector."""

    mutant: Mutant
    detected_by: dict[str, str] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set environment variables within a with block."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def entries_of(csrc: Path) -> dict[str, set[str]]:
    """Return, for each entry that includes kernels, the names of their files."""
    found: dict[str, set[str]] = {}
    for entry in sorted((HERE / "entries").glob("*.cpp")):
        waiting, visited = [entry], set()
        while waiting:
            for name in re.findall(r'#include "([^"]+)"', waiting.pop().read_text()):
                file = csrc / name
                if file.exists() and file not in visited:
                    visited.add(file)
                    waiting.append(file)
        kernels = {file.name for file in visited if file.suffix == ".cuh"}
        if kernels:
            found[entry.stem] = kernels
    return found


def run_tests(entry: str, kind: Build, mutant: Mutant) -> str:
    """Run an entry's tests in one build with one active mutant; return the first detector, or an empty string."""
    failure = FirstFailure(mutant.file)
    arguments = [str(HERE / f"test_{entry}.py"), "-x", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark"]
    silence = io.StringIO()
    with (
        environment(SIMT_CSRC=str(COPY), SIMT_ONLY=kind.value, EMULATOR_MUTANT=str(mutant.number)),
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
    ):
        code = pytest.main(arguments, plugins=[failure])
    if code not in (0, 1):
        raise SystemExit(f"the tests of {entry} did not run:\n{silence.getvalue()[-3000:]}")
    return failure.detector


def fresh_copy(without: set[int] | None = None, always: int | None = None) -> list[Mutant]:
    shutil.rmtree(COPY, ignore_errors=True)
    return mutated_copy(ROOT / "csrc", COPY, without, always)


def compile_mutants(entries: Iterable[str]) -> tuple[list[Mutant], set[int]]:
    """Write and compile the mutated kernels; return the mutants and the numbers of those that need their own build."""
    compiled: set[int] = set()
    while True:
        mutants = fresh_copy(compiled)
        try:
            with environment(SIMT_CSRC=str(COPY)):
                for entry in entries:
                    build(Build.PLAIN, entry)
            return mutants, compiled
        except EmulationError as error:
            places = re.findall(r"(\S+\.cuh):(\d+):\d+: error", str(error))
            lines = {(Path(file).name, int(line)) for file, line in places}
            refused = {mutant.number for mutant in mutants if (mutant.file, mutant.line) in lines} - compiled
            if not refused:
                raise
            compiled |= refused


def try_mutant(mutant: Mutant, entries: Iterable[str], kinds: Sequence[Build], thorough: bool) -> Outcome:
    """Try a mutant in each build; if not thorough, until one detects it."""
    outcome = Outcome(mutant)
    if not thorough and mutant.kind == "no barrier" and Build.RACE in kinds:
        kinds = [Build.RACE]  # detects it under every schedule
    for entry in entries:
        for kind in kinds:
            if detector := run_tests(entry, kind, mutant):
                outcome.detected_by.setdefault(kind.value, detector)
                if not thorough:
                    return outcome
    return outcome


def chosen(mutants: Sequence[Mutant], every: int, compiled: set[int]) -> list[Mutant]:
    """Return all mutants, or the missing barriers, waits and masks, and of each other kind every `every`-th."""
    if every == 1:
        return list(mutants)
    order = collections.Counter[str]()
    some = []
    for mutant in mutants:
        order[mutant.kind] += 1
        always = mutant.kind in {"no barrier", "no wait_group", "wrong mask lane"}
        if (
            (always or order[mutant.kind] % every == 0)
            and mutant.number not in compiled
            and mutant.key not in EXPLAINED
        ):
            some.append(mutant)
    return some


def campaign(every: int, thorough: bool, kinds: Sequence[Build], names: Sequence[str], match: str) -> list[Outcome]:
    """Try the selected mutants and print a row for each."""
    entries = {name: files for name, files in entries_of(ROOT / "csrc").items() if not names or name in names}
    mutants, compiled = compile_mutants(entries)
    outcomes = []
    for mutant in chosen(mutants, every, compiled):
        concerned = [name for name, files in entries.items() if mutant.file in files]
        if not concerned or not re.search(match, mutant.name):
            continue
        if mutant.number in compiled:  # a copy with this mutant alone, always active
            fresh_copy({other.number for other in mutants} - {mutant.number}, mutant.number)
        outcomes.append(try_mutant(mutant, concerned, kinds, thorough))
        if mutant.number in compiled:
            fresh_copy(compiled)
        print_row(outcomes[-1])
    return outcomes


def print_row(outcome: Outcome) -> None:
    detected_by = outcome.detected_by
    cells = "".join(f"{detected_by.get(kind.value, '-'):>15}" for kind in Build)
    explained = (
        "" if detected_by else "  equivalent, see below" if outcome.mutant.key in EXPLAINED else "  NOT DETECTED"
    )
    print(f"{cells}  {outcome.mutant.name}{explained}", flush=True)


def summary(outcomes: Sequence[Outcome]) -> str:
    counted: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for outcome in outcomes:
        row = counted[outcome.mutant.kind]
        row["mutants"] += 1
        row["detected"] += bool(outcome.detected_by)
        row.update(set(outcome.detected_by.values()))
    columns = ["mutants", "detected", *(d for d in DETECTORS if any(row[d] for row in counted.values()))]
    lines = [f"{'':24}" + "".join(f"{column:>14}" for column in columns)]
    lines += [f"{kind:24}" + "".join(f"{row[c]:>14}" for c in columns) for kind, row in sorted(counted.items())]
    undetected = [outcome.mutant for outcome in outcomes if not outcome.detected_by]
    lines += [f"not detected  {p.name}\n    {EXPLAINED.get(p.key, 'NOT EXPLAINED')}" for p in undetected]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, metavar="N", help="of the mutants of a kind, every N-th")
    parser.add_argument("--entry", action="append", default=[], help="only the kernels of entries/ENTRY.cpp")
    parser.add_argument("--until-detected", action="store_true", help="end a mutant with its first detection")
    parser.add_argument("--build", action="append", type=Build, default=[], help="only plain, memory or race")
    parser.add_argument("--match", default="", metavar="REGEX", help="only mutants whose name matches")
    options = parser.parse_args()
    print("".join(f"{kind.value:>15}" for kind in Build) + "  mutant")
    thorough = options.every == 1 and not options.until_detected
    outcomes = campaign(options.every, thorough, options.build or list(Build), options.entry, options.match)
    print("\n" + summary(outcomes))
    return int(any(not o.detected_by and o.mutant.key not in EXPLAINED for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
