"""Keeps the report of a pretraining run up to date while it is going on."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from usvs.report.page import REPORT
from usvs.report.pretraining_page import pretraining_page
from usvs.training.callbacks import Callback
from usvs.training.trainer import Trainer

logger: logging.Logger = logging.getLogger(__name__)

MAX_SECONDS = 1.0  # of processor time; a report that takes longer is written at the end only


class ReportCallback(Callback):
    """Writes ``RUN/report.html`` at each validation, from what is in the folder.

    A report that cannot be written never ends a run: it is logged once, and left for the end,
    when the caller writes the last one, which has more in it.

    Args:
        run: the run folder.
    """

    def __init__(self, run: str | Path) -> None:
        self.run: Path = Path(run)
        self._total_steps: int | None = None
        self._is_off = False

    def on_start(self, trainer: Trainer, total_steps: int) -> None:
        """Keep the number of updates."""
        self._total_steps = total_steps

    def on_validation(self, step: int, values: Mapping[str, float]) -> None:
        """Write the report."""
        if self._is_off:
            return
        started = time.process_time()
        try:
            pretraining_page(self.run, self._total_steps).save(self.run / REPORT)
        except Exception as error:  # whatever it is: hours of training are worth more than a report of them
            logger.warning(f"report.html is not written until the end of the run: {type(error).__name__}: {error}")
            self._is_off = True
            return
        if (seconds := time.process_time() - started) > MAX_SECONDS:
            logger.info(f"report.html took {seconds:.1f} s; the next one is written at the end of the run")
            self._is_off = True
