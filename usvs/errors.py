"""The errors a user may meet; each carries the exit code its command ends with."""


class UsvsError(Exception):
    """Something the user can mend; the message names the thing, what was expected and what came."""

    exit_code = 1


class ConfigError(UsvsError):
    """A setting or an argument is wrong."""

    exit_code = 2


class DataError(UsvsError):
    """The archive, the store or a file in them is not what it should be."""

    exit_code = 3


class MissingDependencyError(UsvsError):
    """A package, a device or a permission that the work needs is missing."""

    exit_code = 4


class Preempted(UsvsError):
    """The run was asked to stop and saved its state; starting it again goes on from there."""

    exit_code = 75
