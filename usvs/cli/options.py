"""What the commands of the command line share: their parser, and how settings are read from it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias, TypeVar

from usvs.config import Profile, Settings, load_settings

SettingsT = TypeVar("SettingsT", bound=Settings)
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


class Parser(argparse.ArgumentParser):
    """Whose complaint is two lines: what is wrong, and where help is."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"usvs: {message}\n(see '{self.prog} --help')\n")


def count(text: str) -> int:
    """Read a number of things, at least one."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got '{text}'")
    return int(text)


def add_settings_options(command: argparse.ArgumentParser, profile: bool = False) -> None:
    """Let settings be given as a file and one by one, and where there are profiles, over which of them."""
    command.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML or JSON")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting, dotted")
    if profile:
        command.add_argument("--profile", choices=["paper", "quick"], default="paper")


def chosen_settings(options: argparse.Namespace, base: SettingsT, first: Sequence[str] = ()) -> SettingsT:
    """Return `base` with the command's own settings, then those that were typed laid over it; a seed comes last."""
    seed = getattr(options, "seed", None)
    last = [] if seed is None or "run" not in type(base).model_fields else [f"run.seed={seed}"]
    return load_settings(base, options.config, [*first, *options.set, *last])


def chosen_profile(options: argparse.Namespace) -> Profile:
    """Return the profile that was asked for."""
    return "quick" if options.profile == "quick" else "paper"


def labelled_patients(options: argparse.Namespace) -> list[str]:
    """Return ``--labelled-patients`` as settings."""
    return [] if options.labelled_patients is None else [f"labelled_patients={options.labelled_patients}"]
