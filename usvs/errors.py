"""Errors that a user can correct; each carries the exit code that its command ends with."""


class UsvsError(Exception):
    """Something the user can correct; the message names what is wrong, what was expected and what was found.

    Arguments after the message are lines below it. Every one is printed as one line, whatever names are in it.
    """

    exit_code = 1

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class ConfigError(UsvsError):
    """A setting or an argument is wrong."""

    exit_code = 2


class DataError(UsvsError):
    """The archive, the store or a file in them is damaged or not what was expected."""

    exit_code = 3


class MissingDependencyError(UsvsError):
    """A Python package, a program or a library that the work needs is not installed."""

    exit_code = 4


class ResourceError(UsvsError):
    """The machine lacks something: disk space, memory, a device or a permission."""

    exit_code = 4


class Preempted(UsvsError):
    """The run received SIGTERM or SIGINT and saved its state; ``--resume`` continues it."""

    exit_code = 75
