"""What the commands print: log records on standard error, results on standard output; the one place that prints.

Names of files and cells of tables may contain escape sequences that change a terminal's title, colours or clipboard, or
that hide text. Here every control character is written as its escape code, so that no caller has to remember it.
"""

import logging
import sys

from usvs.utils.progress import console
from usvs.utils.text import printable_lines


class ConsoleHandler(logging.Handler):
    """Prints records through the console of the progress bars, so that they do not break a bar; without markup."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        try:
            console.print(printable_lines(self.format(record)), markup=False, emoji=False, soft_wrap=True)
        except Exception:  # as the handlers of the standard library do
            self.handleError(record)


def print_result(result: object) -> None:
    """Print a result on standard output."""
    print(printable_lines(str(result)))


def configure_logging(level: int = logging.INFO) -> None:
    """Print what the package logs. Only the command line calls this; a program configures its own logging."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a letter that the terminal's encoding lacks must not end a command
            stream.reconfigure(errors="backslashreplace")
    logger = logging.getLogger("usvs")
    logger.setLevel(level)
    if not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler())
