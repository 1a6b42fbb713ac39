"""Write copies of the kernels that contain the mutants.

A copy contains all mutants of a file, each behind `::emulator::is_active(NUMBER)`; the environment variable
EMULATOR_MUTANT names the active one. So a kernel is compiled once for all its mutants.
"""

import bisect
import dataclasses
import re
from pathlib import Path

from tests.simt.mutation_sites import Edit, array_members, find_edits


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One mutant: its kind, its place and the text that it changes."""

    number: int
    kind: str
    file: str
    line: int
    text: str
    occurrence: int  # among mutants of the same kind and text in the file

    @property
    def key(self) -> str:
        """The key of explained_mutants.json, which does not depend on line numbers."""
        return f"{self.file} {self.kind}: {' '.join(self.text.split())}" + (
            f" #{self.occurrence}" if self.occurrence > 1 else ""
        )

    @property
    def name(self) -> str:
        """The name in the printed table."""
        return f"{self.file}:{self.line} {self.kind}: {' '.join(self.text.split())}"


def mutated_copy(csrc: Path, copy: Path, without: set[int] | None = None, always: int | None = None) -> list[Mutant]:
    """Write a copy of `csrc` with every mutant except those in `without`; mutant `always` is always active."""
    kernels = sorted((csrc / "kernels").glob("*.cuh"))
    sources = {file.name: file.read_text() for file in kernels}
    members = array_members(sources)
    for file in csrc.rglob("*"):
        if file.suffix in {".h", ".cuh", ".cu"}:
            target = copy / file.relative_to(csrc)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(file.read_text())
    mutants: list[Mutant] = []
    for name, source in sources.items():
        starts = [0, *(match.end() for match in re.finditer("\n", source))]
        inserts: list[tuple[int, int, str]] = []
        for edit in sorted(find_edits(source, members), key=lambda e: (e.begin, -e.end)):
            number = len(mutants)
            line = bisect.bisect_right(starts, edit.begin)
            sign = edit.after.strip()[2:3] if edit.kind == "index off by one" else ""
            kind = edit.kind + (f" ({sign}1)" if sign in {"+", "-"} else "")
            text = line_text(source, edit)
            occurrence = 1 + sum((mutant.file, mutant.kind, mutant.text) == (name, kind, text) for mutant in mutants)
            mutants.append(Mutant(number, kind, name, line, text, occurrence))
            if number not in (without or set()):
                called = "true" if number == always else f"::emulator::is_active({number})"
                inserts.append((edit.begin, 1, edit.before.format(called)))
                inserts.append((edit.end, 0, edit.after.format(called)))
        (copy / "kernels" / name).write_text(apply(source, inserts))
    return mutants


def line_text(source: str, edit: Edit) -> str:
    """The text that is changed, with up to 24 characters before it."""
    start = max(source.rfind("\n", 0, edit.begin) + 1, edit.begin - 24)
    return source[start : edit.begin] + "{" + source[edit.begin : edit.end] + "}"


def apply(source: str, inserts: list[tuple[int, int, str]]) -> str:
    """Insert texts: at one place, what closes comes before what opens, and the inner closes before the outer."""
    at_place: dict[int, tuple[list[str], list[str]]] = {}
    for place, opens, text in inserts:
        closers, openers = at_place.setdefault(place, ([], []))
        if opens:
            openers.append(text)
        else:
            closers.insert(0, text)
    pieces, last = [], 0
    for place in sorted(at_place):
        closers, openers = at_place[place]
        pieces += [source[last:place], *closers, *openers]
        last = place
    return "".join([*pieces, source[last:]])
