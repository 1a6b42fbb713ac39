"""What the commands of the command line share: the parser, common options, and how settings are read from them."""

import argparse
import difflib
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar, get_args

from usvs.cli.path_arguments import PathKind
from usvs.config import Profile, Settings, load_settings
from usvs.errors import ConfigError
from usvs.tasks.init_names import INIT_HELP
from usvs.utils.text import printable

SettingsT = TypeVar("SettingsT", bound=Settings)
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are two lines: what is wrong, and where help is.

    Options are written in full. What is expected of paths is in the parsed options as ``path_kinds``, for
    `usvs.cli.path_arguments.check_paths`.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(
            **{"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **arguments}
        )
        self.path_kinds: dict[str, tuple[str, PathKind]] = {}

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"usvs: {printable(message)}\n(see '{self.prog} --help')\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; an unknown one is an error that names the nearest option."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = str(unknown[0]).partition("=")[0]
            nearest = difflib.get_close_matches(word, self._option_string_actions, n=1)
            self.error(f"unknown argument '{word}'" + (f": did you mean '{nearest[0]}'?" if nearest else ""))
        return parsed, unknown

    def add_path(
        self,
        name: str,
        metavar: str,
        help: str,
        kind: PathKind | None = None,
        *,
        required: bool = False,
        optional: bool = False,
    ) -> None:
        """Add a file or a folder: a positional argument, or an option if `name` begins with ``--``.

        Args:
            name: of the argument.
            metavar: what stands for it in the help.
            help: one line.
            kind: what must be there before anything else is done; None: checked where it is used.
            required: whether the option must be given.
            optional: whether the positional argument may be omitted.
        """
        more: dict[str, Any] = {"required": True} if required else {"nargs": "?"} if optional else {}
        self.expect(self.add_argument(name, type=typed_path, metavar=metavar, help=help, **more), kind)

    def expect(self, action: argparse.Action, kind: PathKind | None) -> None:
        """Check the paths of an argument, after parsing."""
        if kind is not None:
            shown = action.option_strings[-1] if action.option_strings else str(action.metavar)
            self.path_kinds[action.dest] = (shown, kind)
            self.set_defaults(path_kinds=self.path_kinds)

    def add_store(self, help: str = "a store that 'usvs prepare' has prepared") -> None:
        """Add the argument STORE."""
        self.add_path("store", "STORE", help, "folder")

    def add_json(self) -> None:
        """Add ``--json``."""
        self.add_switch("--json", "print the result as JSON on standard output; all else goes to standard error")

    def add_dry_run(self) -> None:
        """Add ``--dry-run``."""
        self.add_switch(
            "--dry-run",
            "load everything and one batch, print what the command would do and need, and what would be refused; write"
            " nothing",
        )

    def add_seed(self, help: str, default: int | None = None) -> None:
        """Add ``--seed``."""
        self.add_argument("--seed", type=count_from_zero, default=default, metavar="N", help=help)

    def add_count(self, name: str, help: str, default: int | None = None) -> None:
        """Add an option that is an integer of at least 1."""
        self.add_argument(name, type=count, default=default, metavar="N", help=help)

    def add_choice(self, name: str, choices: Iterable[str], help: str, default: str | None = None) -> None:
        """Add an option that is one of `choices`."""
        self.add_argument(name, choices=tuple(choices), default=default, help=help)

    def add_switch(self, name: str, help: str) -> None:
        """Add an option that is on or off; default: off."""
        self.add_argument(name, action="store_true", help=help)

    def add_repeatable(self, name: str, metavar: str, help: str) -> None:
        """Add an option that may be given several times; default: an empty list."""
        self.add_argument(name, action="append", default=[], metavar=metavar, help=help)

    def add_workers(self) -> None:
        """Add ``--workers``."""
        self.add_count("--workers", "number of worker processes; default: one per core")

    def add_jobs(self) -> None:
        """Add ``--jobs``."""
        self.add_count(
            "--jobs",
            "number of independent trainings that run at once, each on its share of the cores; default: one per core"
            " for a small network on a CPU, as far as memory allows, else 1",
        )

    def add_init_stores(self) -> None:
        """Add ``--init-store``: the stores of the runs that inits come from."""
        self.add_paths(
            "--init-store",
            "STORE",
            "another store that an init was pretrained on, to compare its patients by their names; repeatable",
            "folder",
        )

    def add_paths(self, name: str, metavar: str, help: str, kind: PathKind) -> None:
        """Add an option with a path that may be given several times; default: an empty list."""
        action = self.add_argument(name, type=typed_path, action="append", default=[], metavar=metavar, help=help)
        self.expect(action, kind)

    def add_inits(self) -> None:
        """Add ``--init``: initial encoders to compare."""
        help_text = f"initial encoder; repeat to compare: {INIT_HELP}; default: random"
        self.expect(self.add_argument("--init", action="append", default=[], metavar="INIT", help=help_text), "weights")

    def add_labels(self, default: str = "the only one, or one called label or class") -> None:
        """Add ``--labels``: the label column whose classes are learnt."""
        self.add_argument(
            "--labels", metavar="COLUMN", help=f"the store's label column (setting label_column); default: {default}"
        )

    def add_patients(self) -> None:
        """Add ``--patients``: which patients an init is tested on."""
        self.add_choice(
            "--patients",
            ["all", "held-out"],
            "held-out: only patients that no init was pretrained on; default: all",
            default="all",
        )

    def add_settings(self, profile: bool = False) -> None:
        """Add the options that give settings: a file, single values and, if `profile`, the profile they change."""
        self.add_path("--config", "FILE", "read settings from a TOML or JSON file, as 'usvs config' prints it")
        self.add_repeatable("--set", "NAME=VALUE", "change one setting, by its dotted name; repeat for several")
        if profile:
            self.add_choice(
                "--profile",
                list(get_args(Profile)),
                "settings to start from: the paper's, or a small network for CPUs (quick: minutes; small: the same"
                " network with more and larger batches, up to two hours); default: paper",
                default="paper",
            )


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], None],
    summary: str | None = None,
    example: str | None = None,
) -> Parser:
    """Add a command, with its help and a worked example, which ``--help`` shows at the end.

    Args:
        commands: the group to add it to.
        name: of the command.
        run: what it does; gets the parsed options.
        summary: one sentence: what the command does; None: the first line of `run`'s docstring.
        example: one or more command lines that can be pasted; None: the section Example of `run`'s docstring.
    """
    text, _, section = (inspect.getdoc(run) or "").partition("\n\nExample:\n")
    summary = text[:1].lower() + text[1:].removesuffix(".") if summary is None else summary
    lines = "\n".join(f"  {line.strip()}" for line in (example or section).strip().splitlines())
    command = commands.add_parser(name, help=summary, description=summary, epilog=f"example:\n{lines}")
    command.set_defaults(run_command=run)
    return command


def count(text: str) -> int:
    """Parse a positive integer."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got '{text}'")
    return int(text)


def count_from_zero(text: str) -> int:
    """Parse an integer of at least 0."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected an integer of at least 0, got '{text}'")
    return int(text)


def typed_path(text: str) -> Path:
    """Parse a path; an empty text is none, though Python takes it for the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return Path(text)


def chosen_inits(options: argparse.Namespace) -> list[str]:
    """Return the inits of ``--init``; without one the random one.

    Raises:
        ConfigError: for one that was given twice.
    """
    inits: list[str] = options.init or ["random"]
    if twice := [init for number, init in enumerate(inits) if init in inits[:number]]:
        raise ConfigError(f"--init: expected different ones, got '{twice[0]}' twice")
    return inits


def fraction(text: str) -> float:
    """Parse a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got '{text}'")
    return value


def chosen_settings(options: argparse.Namespace, base: SettingsT, first: Sequence[str] = ()) -> SettingsT:
    """Return `base`, changed by `first`, then by ``--config`` and ``--set``, then by ``--seed``."""
    seed = getattr(options, "seed", None)
    last = [] if seed is None or "run" not in type(base).model_fields else [f"run.seed={seed}"]
    return load_settings(base, options.config, [*first, *options.set, *last])


def chosen_profile(options: argparse.Namespace) -> Profile:
    """Return the profile that ``--profile`` names."""
    profile: Profile = options.profile
    return profile


def labelled_patients(options: argparse.Namespace) -> list[str]:
    """Return ``--labelled-patients`` as a setting."""
    return [] if options.labelled_patients is None else [f"labelled_patients={options.labelled_patients}"]
