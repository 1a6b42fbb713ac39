"""A lock on a folder that one process at a time may write to."""

import os
from pathlib import Path

from usvs.errors import ConfigError, UsvsError
from usvs.utils.file_lock import lock_exclusively

LOCK_FILE = ".lock"


class FolderLock:
    """An exclusive lock on a folder; it ends with `release` and with the process, however that ends.

    Where the file system has no locks there is none, after a warning.

    Args:
        folder: an existing folder; the lock is the hidden file ``.lock`` in it.
        error: the class of the error to raise where the folder is locked.

    Raises:
        UsvsError: of class `error`, where another process has the lock.
    """

    def __init__(self, folder: Path, error: type[UsvsError] = ConfigError) -> None:
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
            lock_exclusively(self._descriptor, folder / LOCK_FILE, wait=False)
        except BlockingIOError:
            self.release()
            raise error(
                f"'{folder}' is in use by another usvs process: wait for it to end, or choose a new folder"
            ) from None
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
