"""Being asked to stop: SIGTERM and SIGINT set a flag, and the run saves itself at the next step."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether the run was asked to stop.

    Attributes:
        signal_name: the signal that asked, or None.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def __bool__(self) -> bool:
        return self.signal_name is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Catch SIGTERM and SIGINT for as long as the block runs; a second SIGINT stops at once.

    Outside the main thread Python allows no handler, so there nothing is caught.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal_name = signal.Signals(number).name
        logger.info(f"{request.signal_name}: saving at the end of this step")

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
