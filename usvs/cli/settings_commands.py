"""Commands about the command line itself: config, completion."""

import argparse
from collections.abc import Callable, Iterator, Mapping

from usvs.cli.log_handler import print_result, show
from usvs.cli.options import Commands, add_command, chosen_profile, chosen_settings
from usvs.cli.settings_text import settings_toml
from usvs.config import Profile, Settings
from usvs.experiments.presets import reproduce_profile
from usvs.experiments.video_probe import VideoProbeSettings
from usvs.narration.settings import NarrateSettings
from usvs.phantom.settings import PhantomSettings
from usvs.store.settings import IndexSettings, prepare_profile
from usvs.tasks.classification.settings import classification_profile
from usvs.tasks.pretraining.settings import pretrain_profile
from usvs.tasks.saliency.settings import saliency_profile
from usvs.utils.dependencies import missing_dependency

# The settings of each command, by profile.
SETTINGS: Mapping[str, Callable[[Profile], Settings]] = {
    "phantom": lambda _: PhantomSettings(),
    "narrate": lambda _: NarrateSettings(),
    "index": lambda _: IndexSettings(),
    "prepare": prepare_profile,
    "pretrain": pretrain_profile,
    "diagnose": pretrain_profile,
    "finetune-planes": classification_profile,
    "finetune-classify": classification_profile,
    "finetune-gaze": saliency_profile,
    "reproduce": reproduce_profile,
    "curves": classification_profile,
    "probe-video": lambda _: VideoProbeSettings(),
}
SHELLS = ("bash", "zsh", "fish", "tcsh")


def add_settings_commands(commands: Commands) -> None:
    """Add these commands to the command line."""
    command = add_command(commands, "config", _run_config)
    command.add_choice("--for", SETTINGS, "the command whose settings are printed; default: pretrain", "pretrain")
    command.add_json()
    command.add_settings(profile=True)

    command = add_command(commands, "completion", _run_completion)
    command.add_argument("shell", choices=SHELLS, help="the shell whose script is printed")


def _run_config(options: argparse.Namespace) -> None:
    """Print all settings of a profile with their meaning, as TOML that --config reads.

    Example:
        usvs config --profile quick
        usvs config --for finetune-planes --profile quick --set optimiser.epochs=5
    """
    name = getattr(options, "for")
    settings = chosen_settings(options, SETTINGS[name](chosen_profile(options)))
    show(options, settings_toml(settings, name), settings)


def _run_completion(options: argparse.Namespace) -> None:
    """Print a script that completes commands and options in a shell.

    Example:
        usvs completion bash
    """
    from usvs.cli import build_parser

    try:
        import shtab
    except ModuleNotFoundError as error:
        raise missing_dependency(error) from None
    parser = build_parser()
    for action, kind in _paths(parser):
        action.complete = shtab.DIRECTORY if kind == "folder" else shtab.FILE  # type: ignore[attr-defined]
    print_result(shtab.complete(parser, options.shell))


def _paths(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.Action, str]]:
    """Yield every argument that is a path, of all commands, with what is expected of it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in dict.fromkeys(action.choices.values()):
                yield from _paths(child)
        elif (kind := getattr(parser, "path_kinds", {}).get(action.dest)) is not None:
            yield action, kind[1]
        elif action.type is not None and getattr(action.type, "__name__", "") == "typed_path":
            yield action, "path"
