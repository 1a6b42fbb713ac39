"""An exclusive lock on an open file or folder, where the file system has locks."""

import errno
import fcntl
import logging
from pathlib import Path

logger: logging.Logger = logging.getLogger(__name__)

# flock on Linux: ENOLCK and EBADF on NFS without its lock service and for its folders, the others on shares and FUSE.
WITHOUT_LOCKS = {errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_warned: set[Path] = set()


def lock_exclusively(descriptor: int, path: Path, wait: bool) -> bool:
    """Lock what a descriptor has open until it is closed; the lock ends with the process, however that ends.

    Args:
        descriptor: of a file or folder that is open.
        path: of it, for the warning.
        wait: for another process that has the lock.

    Returns:
        False where the file system cannot lock it, as on some network shares; a warning says so, once for each folder.

    Raises:
        BlockingIOError: where another process has the lock, unless `wait`.
        OSError: for another failure.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        if path.parent not in _warned:
            _warned.add(path.parent)
            logger.warning(
                f"the file system of '{path.parent}' cannot lock '{path.name}' ({error.strerror}): "
                "make sure that one usvs process at a time writes there"
            )
        return False
    return True
