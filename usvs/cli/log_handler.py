"""Log records of `usvs` on the terminal: one plain line each on standard error, so that standard output stays clean."""

import logging

from usvs.utils.progress import console


class ConsoleHandler(logging.Handler):
    """Prints messages through the console of the progress bars; lines are never wrapped and no markup is read."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        console.print(self.format(record), markup=False, emoji=False, soft_wrap=True)


def configure_logging(level: int = logging.INFO) -> None:
    """Show what the package logs; the command line alone calls this, an importing program configures its own logging."""
    logger = logging.getLogger("usvs")
    logger.setLevel(level)
    if not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler())
