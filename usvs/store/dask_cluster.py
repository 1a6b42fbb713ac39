"""A Dask cluster as an executor: its workers see the archive and the store under the same paths as we do."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, NamedTuple

from usvs.errors import MissingDependencyError

CONNECT_SECONDS = 10


class Cluster(NamedTuple):
    """An executor and how many tasks it can do at once."""

    executor: Executor
    workers: int


@contextmanager
def dask_cluster(address: str) -> Iterator[Cluster]:
    """Connect to a Dask scheduler; a task whose worker dies is done again on another, three times at most.

    Args:
        address: of the scheduler, for example ``tcp://10.0.0.1:8786``.

    Raises:
        MissingDependencyError: without `distributed`, a scheduler at the address, or a worker of it.
    """
    try:
        import distributed
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingDependencyError(
            f"--dask needs the package distributed ({error}): pip install 'usvs[dask]'"
        ) from None
    try:
        client: Any = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingDependencyError(f"--dask: no scheduler answers at '{address}' ({reason})") from None
    with client:
        workers = sum(client.ncores().values())
        if not workers:
            raise MissingDependencyError(
                f"--dask: the scheduler at '{address}' has no workers; start one by 'dask worker'"
            )
        # pure would take two equal tasks for one; what it would hash to find out are names that are private
        yield Cluster(client.get_executor(pure=False), workers)
