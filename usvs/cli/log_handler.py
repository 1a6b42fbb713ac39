"""Log records of the package on the terminal: one line each on standard error; standard output is for results."""

import logging

from usvs.utils.progress import console


class ConsoleHandler(logging.Handler):
    """Prints records through the console of the progress bars, so that they do not break a bar; without markup."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        console.print(self.format(record), markup=False, emoji=False, soft_wrap=True)


def configure_logging(level: int = logging.INFO) -> None:
    """Print what the package logs. Only the command line calls this; a program configures its own logging."""
    logger = logging.getLogger("usvs")
    logger.setLevel(level)
    if not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler())
