"""Labels of whole videos from a csv file: the class of each video, and the source that it comes from."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from usvs.archive.csv_rows import describe_columns, open_csv
from usvs.archive.scan_names import ScanNames
from usvs.errors import DataError
from usvs.store.catalogue import Catalogue
from usvs.store.prepared import PreparedStore

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoLabels:
    """The class and the source of each labelled scan of a store.

    Attributes:
        classes: names of the classes.
        label: class number by scan number.
        source: source by scan number; videos of one source are never divided between training and test.
    """

    classes: tuple[str, ...]
    label: dict[int, int]
    source: dict[int, str]

    def of_sources(self, sources: Sequence[str]) -> list[int]:
        """Return the scans of some sources."""
        chosen = set(sources)
        return [scan for scan, source in self.source.items() if source in chosen]


def read_video_labels(
    store: str | Path,
    file: str | Path,
    classes: Sequence[str],
    file_column: str = "file",
    label_column: str = "label",
    source_column: str = "source_id",
) -> VideoLabels:
    """Read a csv file with one line for each video.

    A video is found by its path in the archive, or where the csv gives only a file name, by that name. Lines with other
    classes, and lines whose video is not in the store, are skipped and counted in the log.

    Args:
        store: the store that the videos are prepared in.
        file: the csv file.
        classes: the labels to use, in order.
        file_column: the column with the path or the name of the file.
        label_column: the column with the class.
        source_column: the column with the source.

    Raises:
        DataError: for a missing column, a file name that fits several videos, two different labels of one video, or
            fewer than two classes with a video.
    """
    file = Path(file)
    videos = _Videos.of_store(Path(store))
    label: dict[int, int] = {}
    source: dict[int, str] = {}
    skipped: Counter[str] = Counter()
    with open_csv(file, f"labels '{file.name}'") as table:
        for column in (file_column, label_column, source_column):
            if column not in table.columns:
                got = describe_columns(table.columns, (file_column, label_column, source_column))
                raise DataError(f"labels '{file.name}': expected a column '{column}', got {got}")
        for line, row in ((each.line, each.values) for each in table.rows):
            where = f"labels '{file.name}', line {line}"
            if row[label_column] not in classes:
                skipped["other classes"] += 1
                continue
            if not row[source_column]:
                raise DataError(f"{where}: expected a value in column '{source_column}', got none")
            scan = videos.find(row[file_column], where)
            if scan is None:
                skipped["not in the store"] += 1
                continue
            given = (list(classes).index(row[label_column]), row[source_column])
            if scan in label and (label[scan], source[scan]) != given:
                raise DataError(f"{where}: '{row[file_column]}' has another label or source in an earlier line")
            label[scan], source[scan] = given
    if len(set(label.values())) < 2:
        raise DataError(f"labels '{file.name}': expected videos of at least two of the classes {', '.join(classes)}")
    reasons = "".join(f"; {count} lines skipped: {reason}" for reason, count in sorted(skipped.items()))
    logger.info(f"labels: {len(label)} videos of {len(set(source.values()))} sources{reasons}")
    return VideoLabels(tuple(classes), label, source)


class _Videos:
    """The prepared scans of a store by path, among all scans of its archive."""

    def __init__(self, numbers: dict[str, int], paths: Iterable[str]) -> None:
        self._numbers, self._names = numbers, ScanNames(paths)

    @classmethod
    def of_store(cls, store: Path) -> "_Videos":
        paths = Catalogue.load(store).paths
        return cls({paths[key]: number for number, key in enumerate(PreparedStore(store).scans)}, paths.values())

    def find(self, path: str, where: str) -> int | None:
        """Return the number of a prepared scan, None without one; errors as of `ScanNames.find`."""
        found = self._names.find(path, where)
        return None if found is None else self._numbers.get(found)
