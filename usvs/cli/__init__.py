"""The command `usvs`: one verb a step, from a folder of scans to a fine-tuned model."""

import sys
from collections.abc import Sequence

from usvs import __version__
from usvs.cli.archive_verbs import add_archive_verbs
from usvs.cli.downstream_verbs import add_downstream_verbs
from usvs.cli.options import Parser
from usvs.cli.pretrain_verbs import add_pretrain_verbs
from usvs.cli.table_verbs import add_table_verbs
from usvs.errors import UsvsError
from usvs.progress import say


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and leave with its exit code; a `UsvsError` is one line, never a traceback."""
    options = _parser().parse_args(arguments)
    try:
        options.run_verb(options)
    except UsvsError as error:
        say(f"usvs: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("usvs: stopped by the keyboard")
        sys.exit(130)
    except PermissionError as error:
        say(f"usvs: no permission for '{error.filename}': choose a folder that you may write to")
        sys.exit(4)
    except OSError as error:
        say(f"usvs: {error.strerror or error}: '{error.filename}'")
        sys.exit(4)


def _parser() -> Parser:
    parser = Parser(prog="usvs", description="Learn from narrated ultrasound: video and speech, no labels.")
    parser.add_argument("--version", action="version", version=f"usvs {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    add_archive_verbs(verbs)
    add_pretrain_verbs(verbs)
    add_downstream_verbs(verbs)
    add_table_verbs(verbs)
    return parser
