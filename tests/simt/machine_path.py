"""How often instructions are executed, read from machine code: control flow, loops, and a path through a loop.

A loop's path is the shortest one through as many of the required blocks as possible, so that it neither takes the
branches for rare cases (masks, unaligned rows) nor leaves out the work.
"""

import collections
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Mapping
from pathlib import Path as File

from tests.simt.machine_code import cuobjdump

LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][A-Z0-9_.]*)([^;]*);")
BYTES_OF_A_WARP = {"": 128, "64": 256, "128": 512}  # of an access to shared memory


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a kernel."""

    address: int
    conditional: bool
    opcode: str
    target: int | None  # of a branch


@dataclasses.dataclass(frozen=True)
class Loop:
    """A natural loop: its first block, and the addresses of all its blocks."""

    header: int
    blocks: frozenset[int]


class Path(collections.Counter[str]):
    """How often each opcode is executed by a warp on a path."""

    @property
    def issued(self) -> int:
        """Number of instructions."""
        return self.total()

    def count(self, opcode: str) -> int:
        """Number of instructions whose first word is `opcode`."""
        return sum(number for name, number in self.items() if name.split(".")[0] == opcode)

    @property
    def shared_bytes(self) -> int:
        """Bytes that the warp reads from and writes to shared memory."""
        total = 0
        for name, number in self.items():
            words = name.split(".")
            if words[0] == "LDSM":
                total += 128 * int(words[-1]) * number
            elif words[0] in ("LDS", "STS", "LDGSTS"):
                total += BYTES_OF_A_WARP[next((word for word in words if word in ("64", "128")), "")] * number
        return total


class ControlFlow:
    """The blocks of a kernel, by their first addresses, and its loops."""

    def __init__(self, instructions: list[Instruction]) -> None:
        starts = {instructions[0].address} | {each.target for each in instructions if each.target is not None}
        for before, each in itertools.pairwise(instructions):
            if before.target is not None or before.opcode.split(".")[0] in ("EXIT", "RET"):
                starts.add(each.address)
        self.blocks: dict[int, list[Instruction]] = {}
        for each in instructions:
            if each.address in starts:
                current = self.blocks.setdefault(each.address, [])
            current.append(each)
        order = sorted(self.blocks)
        self.successors: dict[int, list[int]] = {}
        for place, start in enumerate(order):
            last = self.blocks[start][-1]
            ends = last.target is not None or last.opcode.split(".")[0] in ("EXIT", "RET")
            behind = order[place + 1 : place + 2] if last.conditional or not ends else []
            self.successors[start] = [*behind, *([last.target] if last.target is not None else [])]
        self.entry = order[0]
        self.loops = self._find_loops()

    def _find_loops(self) -> list[Loop]:
        """Return the natural loops, inner ones first."""
        reachable = self._order(self.entry, lambda block: self.successors[block])
        predecessors: dict[int, list[int]] = collections.defaultdict(list)
        for block in reachable:
            for successor in self.successors[block]:
                predecessors[successor].append(block)
        dominators = {block: set(reachable) for block in reachable}
        dominators[self.entry] = {self.entry}
        changed = True
        while changed:
            changed = False
            for block in reachable[1:]:
                common = set.intersection(*(dominators[each] for each in predecessors[block])) | {block}
                changed |= common != dominators[block]
                dominators[block] = common
        bodies: dict[int, set[int]] = {}
        for block in reachable:
            for header in self.successors[block]:
                if header in dominators[block]:
                    body, waiting = bodies.setdefault(header, {header}), [block]
                    while waiting:
                        each = waiting.pop()
                        if each not in body:
                            body.add(each)
                            waiting += predecessors[each]
        return sorted((Loop(header, frozenset(body)) for header, body in bodies.items()), key=lambda x: len(x.blocks))

    @staticmethod
    def _order(first: int, successors: Callable[[int], list[int]]) -> list[int]:
        """Return what can be reached, each before its successors unless there is a cycle."""
        seen, order, stack = {first}, [], [(first, iter(successors(first)))]
        while stack:
            block, rest = stack[-1]
            following = next((each for each in rest if each not in seen), None)
            if following is None:
                order.append(block)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(successors(following))))
        return order[::-1]

    def opcodes(self, loop: Loop) -> Path:
        """Return every opcode in a loop once."""
        return Path(each.opcode for block in loop.blocks for each in self.blocks[block])

    def outer_loops(self) -> list[Loop]:
        """Return the loops that are in no other one, by address."""
        outer = [a for a in self.loops if not any(a.blocks < b.blocks for b in self.loops)]
        return sorted(outer, key=lambda loop: loop.header)

    def inner_loops(self, loop: Loop) -> list[Loop]:
        """Return the loops directly inside another one, by address."""
        inside = [a for a in self.loops if a.blocks < loop.blocks]
        return sorted((a for a in inside if not any(a.blocks < b.blocks for b in inside)), key=lambda a: a.header)

    def path(
        self, loop: Loop, trips: Mapping[Loop, float], requires: Callable[[list[Instruction]], bool], without: set[Loop]
    ) -> Path:
        """Return one pass through a loop.

        Args:
            loop: the loop.
            trips: for loops inside it that the path must take, how often they run.
            requires: whether the path must take a block.
            without: loops inside it that the path must not take.
        """
        inner = {block: each for each in self.inner_loops(loop) for block in each.blocks}

        def following(block: int) -> list[int]:
            exits = inner[block].blocks if block in inner else {block}
            found = {to for each in exits for to in self.successors[each] if to not in exits}
            merged = {inner[to].header if to in inner else to for to in found & loop.blocks}
            return sorted(merged - {loop.header})

        order = self._order(loop.header, following)
        costs: dict[int, tuple[int, Path]] = {}
        for block in order:
            if block in inner:
                each = inner[block]
                body = self.path(each, trips, lambda block: any(i.opcode.startswith("HMMA") for i in block), set())
                count = trips.get(each, 1)
                costs[block] = (each in trips, Path({name: count * number for name, number in body.items()}))
            else:
                costs[block] = (requires(self.blocks[block]), Path(i.opcode for i in self.blocks[block]))
        best: dict[int, tuple[int, int, Path]] = {}
        for block in order[::-1]:
            required, own = costs[block]
            ends = any(
                to == loop.header
                for each in (inner[block].blocks if block in inner else {block})
                for to in self.successors[each]
            )
            choices = [best[each] for each in following(block) if each in best]
            if ends:
                choices.append((0, 0, Path()))
            if not choices or (block in inner and inner[block] in without):
                continue
            number, cost, rest = max(choices, key=lambda choice: choice[:2])
            best[block] = (number + required, cost - own.issued, Path(own + rest))
        return best[loop.header][2]


@functools.lru_cache
def control_flow(binary: File, architecture: str) -> dict[str, ControlFlow]:
    """Return the control flow of the kernels of a binary, by their mangled names."""
    found: dict[str, list[Instruction]] = {}
    for line in cuobjdump(binary, "-sass", "-arch", architecture).splitlines():
        if function := re.match(r"\s*Function : (\S+)", line):
            current = found.setdefault(function[1], [])
        elif match := LINE.match(line):
            target = re.search(r"0x([0-9a-f]+)\s*$", match[4]) if match[3].split(".")[0] == "BRA" else None
            opcode = "NOP" if match[2] == "@!PT" else match[3]  # issued, but never executed
            current.append(
                Instruction(int(match[1], 16), bool(match[2]), opcode, int(target[1], 16) if target else None)
            )
    return {name: ControlFlow(instructions) for name, instructions in found.items()}
