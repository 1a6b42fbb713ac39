"""What the commands print: log records on standard error, results on standard output; the one place that prints.

Names of files and cells of tables may contain escape sequences that change a terminal's title, colours or clipboard, or
that hide text. Here every control character is written as its escape code, so that no caller has to remember it. A log
record is one line, an end of line in a name is an escape code too; `log_lines` logs text of several lines.
"""

import argparse
import logging
import sys
from typing import Any

from usvs.utils.plain_json import json_text
from usvs.utils.preview import Preview
from usvs.utils.progress import console
from usvs.utils.text import log_lines, printable, printable_lines


class ConsoleHandler(logging.Handler):
    """Prints records through the console of the progress bars, so that they do not break a bar; without markup."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        try:
            console.print(printable(self.format(record)), markup=False, emoji=False, soft_wrap=True)
        except Exception:  # as the handlers of the standard library do
            self.handleError(record)


def print_result(result: object) -> None:
    """Print a result on standard output."""
    print(printable_lines(str(result)))


def show(options: argparse.Namespace, result: object, value: Any = None) -> None:
    """Print a result on standard output: as text, or with ``--json`` as JSON.

    Args:
        options: of the command.
        result: whose text is printed.
        value: what is printed as JSON; None: the result itself.
    """
    print_result(json_text(result if value is None else value) if options.json else result)


def show_summary(options: argparse.Namespace, summary: object, value: Any = None) -> None:
    """Log a summary; with ``--json`` it is also printed on standard output. Arguments are those of `show`."""
    log_lines(logging.getLogger(__name__), summary)
    if options.json:
        show(options, summary, value)


def show_preview(options: argparse.Namespace, preview: Preview) -> None:
    """Print the result of a dry run.

    Raises:
        UsvsError: where the command would be refused, with the exit code that it would end with.
    """
    show(options, preview)
    if preview.refusals:
        first = preview.refusals[0]
        raise type(first)(f"{preview.command}: the command would be refused: {first.args[0]}", *first.args[1:])


def configure_logging(level: int = logging.INFO) -> None:
    """Print what the package logs. Only the command line calls this; a program configures its own logging."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a letter that the terminal's encoding lacks must not end a command
            stream.reconfigure(errors="backslashreplace")
    logger = logging.getLogger("usvs")
    logger.setLevel(level)
    if not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler())
