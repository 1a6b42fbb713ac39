"""Find the places of a kernel that can be mutated."""

import dataclasses
import re
from collections.abc import Iterator

CLOSING = {"(": ")", "[": "]", "{": "}"}
WORD = re.compile(r"[A-Za-z_]\w*")
SIZES = r"(?:\s*\[[^\]]*\])+"
DECLARED = re.compile(rf"\b(\w+)>?\s+(\w+){SIZES}((?:\s*,\s*\w+{SIZES})*)\s*[=;,{{]|\(\s*&\s*(\w+)\s*\)\s*\[")
KEYWORDS = {"return", "else", "case", "sizeof", "const"}  # a name behind one of these is not a declaration


@dataclasses.dataclass(frozen=True)
class Edit:
    """Text [begin, end) of a file becomes `before` + itself + `after`, with {} for the mutant's condition."""

    begin: int
    end: int
    kind: str
    before: str
    after: str


def blanked(source: str) -> str:
    """Comments, strings and preprocessor lines become spaces, so that what is found is code, at its own place."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^[ \t]*#(?:\\\n|[^\n])*'

    def spaces(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    return re.sub(pattern, spaces, source, flags=re.DOTALL | re.MULTILINE)


def closing(code: str, opening: int) -> int:
    """Return where the bracket at `opening` is closed."""
    close, depth = CLOSING[code[opening]], 0
    for at in range(opening, len(code)):
        depth += (code[at] == code[opening]) - (code[at] == close)
        if depth == 0:
            return at
    raise ValueError(f"unclosed {code[opening]}")


def regions(code: str) -> Iterator[tuple[int, int]]:
    """Yield each function or struct of namespace level, signature and body, [begin, end)."""
    begin = at = 0
    while at < len(code):
        if code[at] in "([":
            at = closing(code, at) + 1
        elif code[at] == ";":
            begin = at = at + 1
        elif code[at] == "{":
            if re.search(r"\bnamespace\b[\w\s:]*$", code[begin:at]):
                begin = at = at + 1  # declarations in a namespace are at its level
                continue
            end = closing(code, at) + 1
            yield begin, end
            begin = at = end
        else:
            at += 1


def declared_arrays(code: str) -> set[str]:
    """Names of arrays, and of references to arrays, that a function or struct declares: they are in registers."""
    names: set[str] = set()
    for match in DECLARED.finditer(code):
        if match[1] not in KEYWORDS:
            names |= {match[2] or match[4], *re.findall(r",\s*(\w+)", match[3] or "")}
    return names


def array_members(sources: dict[str, str]) -> set[str]:
    """Names of arrays in structs, which are in registers."""
    members: set[str] = set()
    for source in sources.values():
        code = blanked(source)
        for begin, end in regions(code):
            if re.match(r"\s*(template\s*<[^{]*>\s*)?(struct|class)\b", code[begin:end]):
                members |= declared_arrays(code[begin:end])
    return members


def find_edits(source: str, members: set[str]) -> list[Edit]:
    """Return every place of a kernel file that can be mutated."""
    code = blanked(source)
    edits: list[Edit] = []
    for begin, end in regions(code):
        if "{" not in code[begin:end]:
            continue
        body = code.index("{", begin)
        for finder in (barriers, masks, constants, guards, loops, clamps, pointers, refinements):
            edits += finder(code, body, end)
        edits += subscripts(code, body, end, declared_arrays(code[begin:end]), members)
    return [edit for edit in edits if edit.kind == "wrong constant" or not computed_by_compiler(code, edit.begin)]


def computed_by_compiler(code: str, at: int) -> bool:
    """Whether a place is in a constexpr function or statement, where nothing can be switched at run time."""
    while at >= 0:
        statement = max(code.rfind(mark, 0, at) for mark in ";{}") + 1
        if "constexpr" in code[statement:at].replace("if constexpr", ""):
            return True
        at = enclosing(code, at)  # continue with the statement before its brace
    return False


def enclosing(code: str, at: int) -> int:
    """Return where the brace around a place opens, or -1."""
    depth = 0
    for place in range(at - 1, -1, -1):
        depth += (code[place] == "}") - (code[place] == "{")
        if depth < 0:
            return place
    return -1


def barriers(code: str, begin: int, end: int) -> Iterator[Edit]:
    """A barrier, a wait for copies, or their commit is left out."""
    call = re.compile(r"\b(?:\w+::)*(\w*sync(?:threads|warp)|\w*barrier\w*|cp_async_(?:wait|commit))(?:<[^;()]*>)?\(")
    for match in call.finditer(code, begin, end):
        close = closing(code, match.end() - 1)
        if code[close + 1 : close + 2] == ";":
            kind = "no " + ("barrier" if "cp_async" not in match[1] else match[1].removeprefix("cp_async_") + "_group")
            yield Edit(match.start(), close + 1, kind, "({} ? void() : ", ")")


def masks(code: str, begin: int, end: int) -> Iterator[Edit]:
    """A mask lacks lane 31; a shuffle asks the lane beside the right one."""
    for match in re.compile(r"\b__(?:shfl|ballot|any|all|syncwarp)\w*\(").finditer(code, begin, end):
        parts = arguments(code, match.end() - 1)
        if parts and code[slice(*parts[0])].strip():
            yield Edit(*parts[0], "wrong mask lane", "(", " & ~({} ? 0x80000000u : 0u))")
        if "shfl" in match[0] and len(parts) > 2:
            yield Edit(*parts[2], "wrong source lane", "((", ") ^ {})")


def arguments(code: str, opening: int) -> list[tuple[int, int]]:
    """Return the ranges of a call's arguments."""
    end, at, start, parts = closing(code, opening), opening + 1, opening + 1, []
    while at < end:
        if code[at] in CLOSING:
            at = closing(code, at)
        elif code[at] == ",":
            parts.append((start, at))
            start = at + 1
        at += 1
    return [*parts, (start, end)]


def constants(code: str, begin: int, end: int) -> Iterator[Edit]:
    """A constant of the arithmetic is a little off."""
    pattern = re.compile(r"(?<![\w.])\d*\.\d{4,}(?:[eE][-+]?\d+)?f?")
    for match in pattern.finditer(code, begin, end):
        yield Edit(*match.span(), "wrong constant", "(", " * ({} ? 1.001f : 1.0f))")


def refinements(code: str, begin: int, end: int) -> Iterator[Edit]:
    """A refinement of accuracy is left out: a compensation, a product with the low part of a number, a float64 sum."""
    kind = "no refinement"
    for match in re.compile(r"(?<!float )\bcompensation\s*=\s*").finditer(code, begin, end):
        yield Edit(match.end(), statement_end(code, match.end()), kind, "{} ? 0 : (", ")")
    product = re.compile(r"(?:\w+::)*\b(?:mma\w*|multiply)\([^;()]*\blow\b[^;()]*\);")
    for match in product.finditer(code, begin, end):
        yield Edit(match.start(), match.end() - 1, kind, "({} ? void() : ", ")")
    declared = re.compile(r"(?<!const )\bdouble (\w+) = [^;,]*(?:, (\w+) = [^;,]*)?;")
    for declaration in declared.finditer(code, begin, end):
        for name in filter(None, declaration.groups()):
            for match in re.compile(rf"\b{name} [+/*-]= ").finditer(code, declaration.end(), end):
                after = f", {{}} ? void({name} = static_cast<float>({name})) : void())"
                yield Edit(match.start(), statement_end(code, match.end()), kind, "(", after)


def guards(code: str, begin: int, end: int) -> Iterator[Edit]:
    """The condition of an `if` is always true, or never leaves."""
    for match in re.compile(r"\bif\s*\(").finditer(code, begin, end):
        opening = match.end() - 1
        close = closing(code, opening)
        leaves = re.match(r"\s*\{?\s*(return|continue|break)\b", code[close + 1 : end])
        before, after = ("!{} && (", ")") if leaves else ("{} || (", ")")
        yield Edit(opening + 1, close, "no guard", before, after)
    for match in re.compile(r"\bbool\s+\w+\s*=\s*").finditer(code, begin, end):
        yield Edit(match.end(), statement_end(code, match.end()), "no guard", "{} || (", ")")


def statement_end(code: str, at: int) -> int:
    while code[at] not in ";,":
        at = closing(code, at) + 1 if code[at] in CLOSING else at + 1
    return at


def loops(code: str, begin: int, end: int) -> Iterator[Edit]:
    """A loop runs once more."""
    for match in re.compile(r"\bfor\s*\(").finditer(code, begin, end):
        close = closing(code, match.end() - 1)
        first = code.find(";", match.end(), close)
        second = code.find(";", first + 1, close)
        compared = re.compile(r"(?<![<>-])(<=?)(?!<)\s*").search(code, first, second) if first > 0 else None
        if compared:
            bound = re.match(r"[^&|?]*", code[compared.end() : second])
            assert bound
            yield Edit(compared.end(), compared.end() + len(bound[0].rstrip()), "loop too long", "(", ") + {}")


def clamps(code: str, begin: int, end: int) -> Iterator[Edit]:
    """A conditional expression always takes its first value."""
    for match in re.compile(r"\?").finditer(code, begin, end):
        start = condition_begin(code, begin, match.start())
        if word := re.match(r"return\b\s*", code[start : match.start()]):
            start += word.end()
        yield Edit(start, match.start(), "no clamp", "({} || (", ")) ")


def condition_begin(code: str, begin: int, question: int) -> int:
    """Return where the condition in front of a question mark begins."""
    depth, at = 0, question - 1
    while at > begin:
        depth += (code[at] in ")]}") - (code[at] in "([{")
        colon = code[at] == ":" and ":" not in (code[at - 1], code[at + 1])
        assigns = code[at] == "=" and code[at - 1] not in "=<>!" and code[at + 1] != "="
        if depth < 0 or (depth == 0 and (code[at] in ",;?" or colon or assigns)):
            break
        at -= 1
    at += 1
    return at + len(code[at:question]) - len(code[at:question].lstrip())


def pointers(code: str, begin: int, end: int) -> Iterator[Edit]:
    """A copy or a matrix load starts beside the right place."""
    for match in re.compile(r"\b(cp_async_(?:16|4)|ldmatrix_x4\w*)\(").finditer(code, begin, end):
        parts = arguments(code, match.end() - 1)
        for part in parts[:2] if "cp_async" in match[1] else parts[1:2]:
            if not code[slice(*part)].lstrip().startswith("&"):  # these have subscripts
                yield Edit(*part, "index off by one", "(", ") + {}")


def subscripts(code: str, begin: int, end: int, arrays: set[str], members: set[str]) -> Iterator[Edit]:
    """An index of global or shared memory is one too large, or one too small."""
    for match in re.compile(r"\[").finditer(code, begin, end):
        before = code[: match.start()].rstrip()
        close = closing(code, match.start())
        if not code[match.start() + 1 : close].strip() or code[match.start() + 1] == "[":
            continue
        if before[-1] == ")":
            opened = opening_of(code, len(before) - 1)
            if re.fullmatch(r"\(\s*[&*]\s*\w*\s*\)", code[opened : len(before)]):
                continue  # an array's reference is declared
        else:
            name = re.search(r"(\w+)$", before)
            if not name or name[1] in arrays or name[1] in KEYWORDS:
                continue
            ahead = before[: name.start()].rstrip()
            if ahead.endswith((".", "->")) and name[1] in members:
                continue
            typed = re.search(r"(\w+)$", ahead)
            if typed and typed[1] not in KEYWORDS:
                continue
        for sign in "+-":
            yield Edit(match.start() + 1, close, "index off by one", "(", f") {sign} {{}}")


def opening_of(code: str, close: int) -> int:
    depth = 0
    for at in range(close, -1, -1):
        depth += (code[at] in ")]}") - (code[at] in "([{")
        if depth == 0:
            return at
    raise ValueError("unopened bracket")
