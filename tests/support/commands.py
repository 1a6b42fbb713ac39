"""The command line in this process."""

from usvs.cli import main


def run_command(*arguments: object) -> int:
    """Run `usvs` with arguments and return its exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as left:
        return int(left.code or 0)
    return 0
