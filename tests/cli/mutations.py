"""Mutated settings and command lines: each must be refused with exit code 2 before any data is touched.

Run ``python -m tests.cli.mutations --count 20000 --seed 7`` for more of them than the test takes. One file because all
kinds of mutants draw from the same generator and the same worked examples.
"""

import argparse
import contextlib
import io
import json
import random
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin

from usvs import cli
from usvs.cli.reference import iter_commands
from usvs.cli.settings_commands import SETTINGS
from usvs.cli.settings_text import command_of, settings_toml
from usvs.config import Settings, setting_names

MAX_LINES = 6


class Mutant(NamedTuple):
    """A command line that must be refused.

    Attributes:
        kind: of the mutation.
        arguments: the command line.
        named: texts of which one must be in the message.
    """

    kind: str
    arguments: tuple[str, ...]
    named: tuple[str, ...]


class Mutator:
    """Draws mutants over the schema of the settings and over all commands.

    Args:
        folder: an empty folder, for files that exist.
        seed: of the generator.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.parser = cli.build_parser()
        self.commands = dict(iter_commands(self.parser))
        for name in ("store", "archive"):
            (folder / name).mkdir()
        (folder / "file.csv").write_text("file,label\n")
        self.examples = {name: self._example(name) for name in self.commands}

    def draw(self) -> Mutant:
        """Return a mutant."""
        kinds = (
            self.misspelt_setting,
            self.wrong_value,
            self.wrong_value,
            self.contradiction,
            self.wrong_file,
            self.hostile_text,
        )
        return self.random.choice(
            (*kinds, self.misspelt_option, self.wrong_option, self.wrong_path, self.wrong_words)
        )()

    # settings

    def misspelt_setting(self) -> Mutant:
        """Misspell a part of the name of a setting, or address a part of a single value."""
        command, settings = self._settings()
        name = self.random.choice([name for name, *_ in setting_names(settings)])
        known = {name for name, *_ in setting_names(settings)} | {
            ".".join(name.split(".")[:depth]) for name, *_ in setting_names(settings) for depth in range(1, 4)
        }
        words = name.split(".")
        position = self.random.randrange(len(words))
        initials = "".join(word[0] for word in words[position].split("_"))
        wrong = self.random.choice([self._misspell(words[position]), f"{words[position]}s", initials, "x"])
        mutated = ".".join([*words[:position], wrong, *words[position + 1 :]])
        named = ".".join([*words[:position], wrong])
        if mutated in known:
            mutated = named = f"{name}.x"
        return self._with_setting("misspelt setting", command, mutated, self.random.choice([1, "a", True, [1]]), named)

    def wrong_value(self) -> Mutant:
        """Give a setting a value of another type, or one out of its range."""
        command, settings = self._settings()
        name, group, last = self.random.choice(list(setting_names(settings)))
        field = type(group).model_fields[last]
        value = self.random.choice(list(_wrong_values(field.annotation, field.metadata)))
        return self._with_setting("wrong value", command, name, value, last)

    def contradiction(self) -> Mutant:
        """Settings or options that contradict each other."""
        words, named = self.random.choice(CONTRADICTIONS)
        return Mutant("contradiction", tuple(word.format(folder=self.folder) for word in words), named)

    def hostile_text(self) -> Mutant:
        """Names and values with control characters, or of many lines, or long."""
        command, settings = self._settings()
        name, *_ = self.random.choice(list(setting_names(settings)))
        hostile = self.random.choice(["\n" * 20, "\x1b]0;x\x07", "x" * 5000, "\r\n\t" * 30, "[bold]\u202e" * 9])
        words, named = self.random.choice(
            [
                (("--set", f"{name}{hostile}q=1"), name),
                (("--set", f"q{hostile}q={name}"), "setting"),
                (("--set", f"{name}.{hostile}"), name),
                (("--config", f"{self.folder}/{hostile}.toml"), "settings file"),
                ((f"--{hostile}",), "argument"),
            ]
        )
        return Mutant("hostile text", (*command, *words), (named,))

    def wrong_file(self) -> Mutant:
        """A settings file that is none."""
        command, settings = self._settings()
        toml = settings_toml(settings, "pretrain").encode()
        line = self.random.randrange(toml.count(b"\n"))
        cut = b"\n".join(toml.splitlines()[:line]) + b"\nlearning_rate = "
        name, content = self.random.choice(
            [
                ("broken.toml", cut),
                ("broken.json", json.dumps({"optimiser": 1})[:-1].encode()),
                ("list.json", b"[1, 2]"),
                ("deep.json", b"[" * 100_000),
                ("binary.toml", bytes(self.random.randrange(128, 256) for _ in range(50))),
                ("toml.json", toml),
                ("number.json", b"3"),
            ]
        )
        file = self.folder / name
        file.write_bytes(content)
        missing = [self.folder / "missing.toml", self.folder / "store", self.folder / "file.csv" / "a.toml"]
        chosen = self.random.choice([file, file, *missing])
        return Mutant("wrong file", (*command, "--config", str(chosen)), (str(chosen), "settings: "))

    # command lines

    def misspelt_option(self) -> Mutant:
        """Misspell an option, or give one that the command does not have."""
        name, words = self._command()
        options = [option for option in self.commands[name]._option_string_actions if option.startswith("--")]
        known = set(options)
        wrong = f"--{self._misspell(self.random.choice(options)[2:])}"
        wrong = self.random.choice([wrong, wrong[:-1], "--lr", "--epochs", "--batch-size", "--force"])
        wrong = f"{wrong}x" if wrong in known else wrong
        return Mutant("misspelt option", (*words, wrong, "1"), (wrong,))

    def wrong_option(self) -> Mutant:
        """Give an option a value that it does not take, or none."""
        name, words = self._command()
        actions = {
            option: action
            for option, action in self.commands[name]._option_string_actions.items()
            if option.startswith("--") and option != "--help"
        }
        if not actions:
            return self.misspelt_option()
        option = self.random.choice(list(actions))
        action = actions[option]
        if action.nargs == 0:
            return Mutant("wrong option", (*words, f"{option}=yes"), (option,))
        if action.choices is not None:
            return Mutant("wrong option", (*words, option, self._misspell(str(next(iter(action.choices))))), (option,))
        if action.type is not None and getattr(action.type, "__name__", "") in ("count", "count_from_zero", "fraction"):
            return Mutant("wrong option", (*words, f"{option}={self.random.choice(['-1', '1.5', 'x', ''])}"), (option,))
        return Mutant("wrong option", (*words, option), (option,))

    def wrong_path(self) -> Mutant:
        """A path that does not exist, or a file where a folder is expected, or the reverse."""
        name = self.random.choice([name for name in self.commands if getattr(self.commands[name], "path_kinds", None)])
        kinds = self.commands[name].path_kinds
        words = list(self.examples[name])
        given = {dest: shown for dest, (shown, _) in kinds.items() if self._position(name, words, dest) is not None}
        dest = self.random.choice(list(given) or list(kinds))
        shown, kind = kinds[dest]
        below_a_file = str(self.folder / "file.csv" / "x")
        wrong = {
            "folder": [self.folder / "missing", self.folder / "file.csv", below_a_file],
            "file": [self.folder / "missing.csv", self.folder / "store", below_a_file],
            "path": [self.folder / "missing"],
            "output_folder": [self.folder / "file.csv", below_a_file],
            "output_file": [self.folder / "store", below_a_file],
            "weights": [self.folder / "missing", self.folder / "file.csv", "sononet:missing.npz", "imagenet:nothing"],
            "model": [self.folder / "missing", self.folder / "file.csv", "sononet:missing.npz", "random"],
            "library_or_file": [self.folder / "missing.pth", "tim"],
        }[kind]
        value = str(self.random.choice(wrong))
        position = self._position(name, words, dest)
        if position is None:
            words += [shown, value]
        else:
            words[position] = value
        return Mutant("wrong path", tuple(words), (shown,))

    def wrong_words(self) -> Mutant:
        """A command that is not there, one without its arguments, or with more of them."""
        name, words = self._command()
        count = len(name.split()) - 1
        choice = self.random.randrange(3)
        if choice == 0:
            verb = self._misspell(words[0])
            return Mutant("unknown command", (verb, *words[1:]), (verb,))
        positional = [action for action in self.commands[name]._actions if not action.option_strings]
        required = [action for action in positional if action.nargs not in ("?", "*")]
        if choice == 1 and required:
            return Mutant("missing argument", words[:count], (str(required[0].metavar or required[0].dest),))
        if any(action.nargs in ("*", "+") for action in positional):
            return Mutant("unknown option", (*words, "--more"), ("--more",))
        return Mutant("further argument", (*words, "further", "more"), ("further", "more"))

    def _settings(self) -> tuple[tuple[str, ...], Settings]:
        """Return a complete command line that takes settings, and these."""
        name = self.random.choice(list(SETTINGS))
        verb = f"usvs {command_of(name)}"
        profile = self.random.choice(["paper", "quick", "small"])
        words = self.examples[verb]
        words = words[: words.index("--set")] if "--set" in words else words  # it would replace a value of a file
        if "--profile" in self.commands[verb]._option_string_actions:
            at = words.index("--profile") if "--profile" in words else len(words)
            words = (*words[:at], *words[at + 2 :], "--profile", profile)
        return words, SETTINGS[name](profile)

    def _with_setting(self, kind: str, command: tuple[str, ...], name: str, value: Any, *named: str) -> Mutant:
        form = self.random.choice(["set", "set", "json"])
        if form == "set":
            text = value if isinstance(value, str) else json.dumps(value)
            return Mutant(kind, (*command, "--set", f"{name}={text}"), named)
        file = self.folder / "settings.json"
        nested: Any = value
        for word in reversed(name.split(".")):
            nested = {word: nested}
        file.write_text(json.dumps(nested))
        return Mutant(f"{kind} in a file", (*command, "--config", str(file)), named)

    def _command(self) -> tuple[str, tuple[str, ...]]:
        name = self.random.choice(list(self.commands))
        return name, self.examples[name]

    def _example(self, name: str) -> tuple[str, ...]:
        """Return the first example of a command, with paths that exist where they must."""
        line = re.findall(rf"^ *({re.escape(name)}( .*)?)$", str(self.commands[name].epilog), re.MULTILINE)[0][0]
        words = shlex.split(line)[1:]
        valid = {
            **dict.fromkeys(("folder", "weights", "model"), str(self.folder / "store")),
            **dict.fromkeys(("file", "path", "library_or_file"), str(self.folder / "file.csv")),
            **dict.fromkeys(("output_folder", "output_file"), str(self.folder / "new")),
        }
        for dest, (_, kind) in getattr(self.commands[name], "path_kinds", {}).items():
            if (position := self._position(name, words, dest)) is not None:
                words[position] = valid[kind]
        return tuple("random" if word in ("PRETRAINED", "RUN") else word for word in words)

    def _position(self, name: str, words: list[str], dest: str) -> int | None:
        """Return where the value of an argument is in a command line."""
        action = next(action for action in self.commands[name]._actions if action.dest == dest)
        if action.option_strings:
            option = action.option_strings[-1]
            return words.index(option) + 1 if option in words else None
        at = len(name.split()) - 2
        parsed = vars(self.parser.parse_args(words))
        for positional in (one for one in self.commands[name]._actions if not one.option_strings):
            value = parsed[positional.dest]
            value = str(value[0] if isinstance(value, list) and value else value)
            if value not in words[at + 1 :]:
                continue
            at = words.index(value, at + 1)  # behind the arguments before it, which may have the same value
            if positional.dest == dest:
                return at
        return None

    def _misspell(self, word: str) -> str:
        """Drop, double, swap or replace a letter."""
        at = self.random.randrange(len(word))
        letter = self.random.choice("qxzjk")
        swapped = word[:at] + word[at : at + 2][::-1] + word[at + 2 :]
        choices = [
            word[:at] + word[at + 1 :],
            word[:at] + letter + word[at:],
            swapped,
            word[:at] + letter + word[at + 1 :],
        ]
        wrong = self.random.choice(choices)
        return wrong if wrong and wrong != word and not wrong.startswith("-") else f"{word}q"


CONTRADICTIONS: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("pretrain", "{folder}/store", "{folder}/new", "--profile", "quick", *(f"--set={text}" for text in texts)), named)
    for texts, named in (
        (["clips.speech_seconds=3"], ("speech_seconds",)),
        (["clips.order_spacing_seconds=1"], ("order_spacing_seconds",)),
        (["clips.order_jitter_seconds=0.4"], ("order_jitter_seconds",)),
        (["spectrogram.win_length=1024"], ("win_length",)),
        (["spectrogram.pool=100000"], ("pool",)),
        (["spectrogram.frames=1", "spectrogram.pool=2"], ("pool",)),
        (["model.video.layers=[0, 1, 1, 1]"], ("layers",)),
        (["model.speech.stem_width=1", "model.speech.base_width=1"], ("stem_width",)),
        (["model.shared_projection=true"], ("projection_grid",)),
        (["clips.groups_per_clip=1"], ("groups_per_clip",)),
        (["clips.speech_seconds=0.001"], ("speech_seconds",)),
        (
            [f"objective.{name}_weight=0" for name in ("correspondence", "contrastive", "stream", "order")],
            ("contrastive_weight",),
        ),
    )
] + [
    (("phantom", "{folder}/new", "--set", "dwell_seconds=[7, 4]"), ("dwell_seconds",)),
    (("phantom", "{folder}/new", "--real", "{folder}/store"), ("--real",)),
    (("prepare", "{folder}/store", "--dask", "tcp://x:1", "--workers", "2"), ("--workers",)),
    (("diagnose", "{folder}/store", "--updates", "10"), ("--updates",)),
    (("pretrain", "{folder}/store", "{folder}/new", "--init-store", "{folder}/store"), ("--init-store",)),
    (("pretrain", "{folder}/store", "{folder}/new", "--allow-overlap"), ("--allow-overlap",)),
    (("predict", "classify", "a.png", "--model", "{folder}/store", "--out", "a.xlsx"), ("--out",)),
    (("predict", "classify", "a.png", "--model", "{folder}/store", "--box", "4,4,1,1"), ("--box",)),
    (("curves", "{folder}/store", "{folder}/new", "--fractions", "0.1,2"), ("--fractions",)),
    (("curves", "{folder}/store", "{folder}/new", "--init", "random", "--init", "random"), ("--init",)),
    (("finetune", "planes", "{folder}/store", "{folder}/new", *("--init", "random") * 2), ("--init",)),
    (("finetune", "gaze", "{folder}/store", "{folder}/new", "--set=stratify_folds=true"), ("stratify_folds",)),
    (("index", "{folder}/archive", "{folder}/archive/store", "--dry-run"), ("inside the archive",)),
    (("pretrain", "", "{folder}/new"), ("STORE",)),
    *(
        (
            ("probe-video", "{folder}/store", "{folder}/new", "--labels", "{folder}/file.csv", "--classes", classes),
            ("--classes",),
        )
        for classes in ("a", "a,a", "a,", ",")
    ),
]


def _wrong_values(annotation: Any, metadata: list[Any]) -> Iterator[Any]:
    """Yield values that a field does not take."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        yield from ("nothing", 7, [parts[0]], True, None)
        return
    if NoneType in parts:
        inner = next(part for part in parts if part is not NoneType)
        yield from (value for value in _wrong_values(inner, metadata) if value is not None)
        return
    if get_origin(annotation) is tuple:
        yield from ("abc", 3, {"a": 1})
        if Ellipsis not in parts:
            yield from ([1] * (len(parts) + 1), [], ["a"] * len(parts), [True] * len(parts))
        return
    for rule in metadata:
        for name, step in (("gt", 0), ("ge", -1), ("lt", 0), ("le", 1)):
            if (bound := getattr(rule, name, None)) is not None:
                yield bound + step
                yield bound + (-1000 if name[0] == "g" else 1000)
    if annotation is bool:
        yield from ("perhaps", 2, [True], {"a": 1}, None)
    elif annotation is str:
        yield from (3, True, ["a"], {"a": 1}, None)
    else:
        yield from ("many", True, [1], {"a": 1}, None, 10**30, 1e400 if annotation is float else 1.5)


def outcome(mutant: Mutant) -> str | None:
    """Run a mutant in this process; return what is wrong with how it was refused, or None."""
    errors, output, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
        try:
            cli.main(list(mutant.arguments))
        except SystemExit as left:
            code = int(left.code or 0)
        except Exception as error:  # a traceback
            return f"{type(error).__name__}: {error}"
    text = errors.getvalue()
    lines = text.strip().splitlines()
    if code != 2:
        return f"expected exit code 2, got {code}: {text[-300:]}"
    if not 0 < len(lines) <= MAX_LINES:
        return f"expected 1 to {MAX_LINES} lines, got {len(lines)}"
    if output.getvalue():
        return f"expected nothing on standard output, got {output.getvalue()[:100]}"
    if not any(name in text for name in mutant.named):
        return f"expected one of {mutant.named}, got {text}"
    return None


def find_failures(folder: Path, count: int, seed: int) -> tuple[list[str], dict[str, int]]:
    """Run some mutants; return those that were not refused as they must be, and the number of each kind."""
    mutator = Mutator(folder, seed)
    before = {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
    failures, kinds = [], dict[str, int]()
    for _ in range(count):
        mutant = mutator.draw()
        kinds[mutant.kind] = kinds.get(mutant.kind, 0) + 1
        if wrong := outcome(mutant):
            if (folder / "settings.json") in map(Path, mutant.arguments):
                wrong = f"{wrong}\n    settings.json: {(folder / 'settings.json').read_text()}"
            failures.append(f"{mutant.kind}: usvs {shlex.join(mutant.arguments)}\n    {wrong}")
    written = {path.name for path in folder.rglob("*") if path not in before and path.suffix not in (".json", ".toml")}
    if written or any(path.is_file() and path.read_bytes() != content for path, content in before.items()):
        failures.append(f"something was written: {sorted(written)}")
    return failures, kinds


def main() -> None:
    """Run many mutants from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        failures, kinds = find_failures(Path(folder), options.count, options.seed)
    print(f"{options.count} mutants, seed {options.seed}: {len(failures)} not refused as they must be")
    print(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    print("\n".join(failures[:40]))
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
