"""The command that examines an installation: doctor."""

import argparse

from usvs.cli.log_handler import show
from usvs.cli.options import Commands, add_command
from usvs.errors import MissingDependencyError
from usvs.utils.text import quantity


def add_doctor_command(commands: Commands) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "doctor", _run_doctor)
    command.add_json()


def _run_doctor(options: argparse.Namespace) -> None:
    """Examine this installation: versions, kernels against their references, optional packages, programs, GPUs.

    Example:
        usvs doctor
        usvs doctor --json
    """
    from usvs.doctor import examine

    found = examine()
    show(options, found)
    if found.failed:
        names = ", ".join(check.name for check in found.failed)
        raise MissingDependencyError(f"doctor: {quantity(len(found.failed), 'check')} failed: {names}; see above")
