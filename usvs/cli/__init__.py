"""The command `usvs`: one command a step, from a folder of scans to a fine-tuned model."""

import logging
import sys
from collections.abc import Sequence

from usvs import __version__
from usvs.cli.archive_commands import add_archive_commands
from usvs.cli.experiment_commands import add_experiment_commands
from usvs.cli.log_handler import configure_logging
from usvs.cli.options import Parser
from usvs.cli.pretrain_commands import add_pretrain_commands
from usvs.cli.task_commands import add_task_commands
from usvs.errors import UsvsError

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code; a `UsvsError` is one line, never a traceback."""
    options = _parser().parse_args(arguments)
    configure_logging()
    try:
        options.run_command(options)
    except UsvsError as error:
        logger.error(f"usvs: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        logger.error("usvs: interrupted")
        sys.exit(130)
    except PermissionError as error:
        logger.error(f"usvs: no permission for '{error.filename}': choose a folder that you may write to")
        sys.exit(4)
    except OSError as error:
        logger.error(f"usvs: {error.strerror or error}: '{error.filename}'")
        sys.exit(4)


def _parser() -> Parser:
    parser = Parser(prog="usvs", description="Learn from narrated ultrasound: video and speech, no labels.")
    parser.add_argument("--version", action="version", version=f"usvs {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_archive_commands(commands)
    add_pretrain_commands(commands)
    add_task_commands(commands)
    add_experiment_commands(commands)
    return parser
