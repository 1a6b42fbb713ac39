"""Finding the scan that a table names: by its path, the end of its path, or its file name with or without suffix."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from usvs.errors import DataError


class ScanNames:
    """The paths of scans, found by what a table calls them.

    A whole path comes first. Otherwise the encoding of accents is not regarded, and capitals are not unless that fits
    several paths.

    Args:
        paths: of all scans, relative to the archive: also of those that are not asked for, since a name that is theirs
            would be taken for another scan of the same name.
        archive: name of the archive's folder; a table beside it may begin its paths with it.
    """

    def __init__(self, paths: Iterable[str], archive: str = "") -> None:
        self._paths = frozenset(paths)
        self._archive = archive
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in self._paths:
            name = PurePosixPath(path)
            for key in {_normalize(name.name), _normalize(name.stem)}:
                self._by_name[key].append(path)

    def find(self, name: str, where: str) -> str | None:
        """Return the path of a scan; None without one.

        Args:
            name: as a table gives it, with forward or backward slashes.
            where: the file and the line, with which an error begins.

        Raises:
            DataError: where it fits several scans.
        """
        if name in self._paths:  # it may contain a backslash, or begin with a space
            return name
        asked = PurePosixPath(name.strip().replace("\\", "/"))
        parts = asked.parts
        if self._archive and len(parts) > 1 and parts[0] == self._archive:
            inside = PurePosixPath(*parts[1:])
            return self._find(asked, name, where) or self._find(inside, name, where)
        return self._find(asked, name, where)

    def _find(self, asked: PurePosixPath, name: str, where: str) -> str | None:
        if str(asked) in self._paths:
            return str(asked)
        candidates = self._by_name.get(_normalize(asked.name), [])
        composed = tuple(_compose(part) for part in asked.parts)
        exact = [path for path in candidates if _ends_with(_compose(path), composed)]
        folded = tuple(_normalize(part) for part in asked.parts)
        found = sorted(exact or (path for path in candidates if _ends_with(_normalize(path), folded)))
        whole = [path for path in found if len(PurePosixPath(path).parts) == len(asked.parts)]
        found = whole or found  # a path without suffix, before the end of another path
        if len(found) > 1:
            raise DataError(
                f"{where}: '{name}' fits {len(found)} videos, '{found[0]}' and '{found[1]}':"
                " write the path in the archive instead"
            )
        return found[0] if found else None


def _ends_with(path: str, parts: tuple[str, ...]) -> bool:
    """Return whether a path, or the path without suffix, ends with all of some parts."""
    if not parts:
        return False
    name = PurePosixPath(path)
    return any(candidate.parts[-len(parts) :] == parts for candidate in (name, name.with_suffix("")))


def _compose(name: str) -> str:
    """Return a name with the accents that are letters of their own: which of the two encodings it has is not seen."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _normalize(name: str) -> str:
    return _compose(name).lower()
