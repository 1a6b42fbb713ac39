"""The command line `usvs`: one command per step, from a folder of scans to a fine-tuned network."""

import logging
import os
import sys
from collections.abc import Sequence

from usvs import __version__
from usvs.cli.log_handler import configure_logging
from usvs.cli.options import Parser
from usvs.cli.path_arguments import check_paths
from usvs.errors import UsvsError
from usvs.utils.dependencies import is_missing_dependency, missing_dependency

logger: logging.Logger = logging.getLogger(__name__)

EXIT_CODES = {
    0: "success",
    2: "wrong setting or argument, or a path that does not exist",
    3: "damaged or unsuitable archive, store or file",
    4: "a package, disk space, memory, a device or a permission is missing",
    75: "interrupted; the state is saved, the same command with --resume continues",
    130: "interrupted by Ctrl-C",
}
EPILOG = """\
example, from a synthetic archive to a pretrained network:
  usvs phantom ARCHIVE --patients 8
  usvs index ARCHIVE STORE
  usvs prepare STORE --profile quick
  usvs pretrain STORE RUN --profile quick

exit codes:
""" + "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code; an error that the user can correct is one line, never a traceback."""
    configure_logging()
    try:
        options = build_parser().parse_args(arguments)
        check_paths(options)
        options.run_command(options)
        sys.stdout.flush()
    except UsvsError as error:
        _fail(error.exit_code, *map(str, error.args))
    except KeyboardInterrupt:
        _fail(130, "interrupted")
    except BrokenPipeError:  # of `usvs config | head`: nobody reads the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except PermissionError as error:
        _fail(4, f"no permission for '{error.filename}': choose a folder that you may write to")
    except OSError as error:
        of_file = "" if error.filename is None else f": '{error.filename}'"
        _fail(4, f"{error.strerror or error}{of_file}")
    except MemoryError as error:
        _fail(4, f"not enough memory{f': {error}' if str(error) else ''}: expected more than this process may use")
    except ModuleNotFoundError as error:
        if not is_missing_dependency(error):
            raise
        missing = missing_dependency(error)
        _fail(missing.exit_code, str(missing))


def _fail(exit_code: int, message: str, *more: str) -> None:
    for line in (f"usvs: {message}", *more):
        logger.error(line)
    sys.exit(exit_code)


def build_parser() -> Parser:
    """Return the parser of the command line."""
    # imported inside `main`, which reports a missing optional package in one line
    from usvs.cli.archive_commands import add_archive_commands
    from usvs.cli.doctor_commands import add_doctor_command
    from usvs.cli.experiment_commands import add_experiment_commands
    from usvs.cli.export_commands import add_export_commands
    from usvs.cli.pretrain_commands import add_pretrain_commands
    from usvs.cli.report_commands import add_report_commands
    from usvs.cli.search_commands import add_search_commands
    from usvs.cli.settings_commands import add_settings_commands
    from usvs.cli.store_commands import add_store_commands
    from usvs.cli.task_commands import add_task_commands

    summary = "Learn representations from narrated ultrasound: video and speech, without labels."
    parser = Parser(prog="usvs", description=summary, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"usvs {__version__}", help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_doctor_command(commands)
    add_archive_commands(commands)
    add_store_commands(commands)
    add_pretrain_commands(commands)
    add_task_commands(commands)
    add_report_commands(commands)
    add_search_commands(commands)
    add_export_commands(commands)
    add_experiment_commands(commands)
    add_settings_commands(commands)
    return parser
