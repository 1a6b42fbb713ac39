"""One line of `usvs doctor`."""

from typing import Literal, NamedTuple

State = Literal["ok", "absent", "failed"]


class Check(NamedTuple):
    """Something that was examined.

    Attributes:
        group: what it belongs to: ``core``, ``kernels``, ``operation``, ``optional``, ``program`` or ``device``.
        name: of the thing.
        state: ``ok``; ``absent``: not installed, and the core works without it; ``failed``: the core needs it.
        detail: version, purpose, or what is wrong and what to type.
    """

    group: str
    name: str
    state: State
    detail: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.state:6}  {self.group:9}  {self.name:24}  {self.detail}"
