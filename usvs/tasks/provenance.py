"""The command that made a folder of results, without names of the archive."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from usvs.tasks.init_names import INIT_PREFIXES

RESULTS_FILE = "results.json"


def typed_command(arguments: Sequence[str], folders: Mapping[str, Path]) -> list[str]:
    """Return the command as typed, with folders that may carry an archive's name replaced.

    Args:
        arguments: of the process, for example `sys.argv`.
        folders: each under what replaces it, for example ``STORE``; of other absolute paths the last part is kept.
    """
    shown = []
    for argument in arguments:
        prefix, colon, rest = argument.partition(":")
        if colon and prefix in INIT_PREFIXES:
            shown.append(f"{prefix}:{Path(rest).name}")
            continue
        path = Path(argument)
        names = [name for name, folder in folders.items() if path == folder or path.resolve() == folder.resolve()]
        shown.append(names[0] if names else path.name if path.is_absolute() else argument)
    return shown
