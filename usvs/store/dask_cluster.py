"""A Dask cluster as an executor; its workers must see the archive and the store under the same paths."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, NamedTuple

from usvs.errors import ResourceError
from usvs.utils.dependencies import missing_dependency
from usvs.utils.text import shell_command

CONNECT_SECONDS = 10


class Cluster(NamedTuple):
    """An executor and the number of tasks that it runs at once."""

    executor: Executor
    workers: int


@contextmanager
def dask_cluster(address: str) -> Iterator[Cluster]:
    """Connect to a Dask scheduler; a task whose worker dies is repeated on another worker, at most three times.

    Args:
        address: address of the scheduler, for example ``tcp://10.0.0.1:8786``.

    Raises:
        MissingDependencyError: if the package `distributed` is missing.
        ResourceError: if no scheduler answers at the address, or it has no workers.
    """
    try:
        import distributed
    except (ImportError, OSError, RuntimeError) as error:
        raise missing_dependency(error, "distributed") from None
    try:
        client: Any = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ResourceError(f"Dask: no scheduler answers at '{address}' ({reason})") from None
    with client:
        workers = sum(client.ncores().values())
        if not workers:
            raise ResourceError(
                f"Dask: the scheduler at '{address}' has no workers; run: {shell_command('dask', 'worker', address)}"
            )
        # pure=True would hash the tasks to merge equal ones, and the tasks contain private names
        yield Cluster(client.get_executor(pure=False), workers)
