"""What the commands of the command line share: the parser, common options, and how settings are read from them."""

import argparse
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar, get_args

from usvs.config import Profile, Settings, load_settings
from usvs.utils.text import printable_lines

SettingsT = TypeVar("SettingsT", bound=Settings)
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are two lines: what is wrong, and where help is."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **arguments})

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"usvs: {printable_lines(message)}\n(see '{self.prog} --help')\n")

    def add_path(self, name: str, metavar: str, help: str) -> None:
        """Add a file or a folder: a positional argument, or an option if `name` begins with ``--``."""
        self.add_argument(name, type=Path, metavar=metavar, help=help)

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

    def add_init_stores(self) -> None:
        """Add ``--init-store``: the stores of the runs that inits come from."""
        self.add_argument(
            "--init-store",
            type=Path,
            action="append",
            default=[],
            metavar="STORE",
            help="another store that an init was pretrained on, to compare its patients by their names; repeatable",
        )

    def add_labels(self) -> None:
        """Add ``--labels``: the label column whose classes are learnt."""
        self.add_argument(
            "--labels", metavar="COLUMN", help="the store's label column (setting label_column); default: the only one"
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
        self.add_path("--config", "FILE", "read settings from a TOML or JSON file")
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
