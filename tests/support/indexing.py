"""Index an archive of short scans, and read the rows of its catalogue."""

from pathlib import Path

from usvs.store.catalogue import Catalogue
from usvs.store.index_summary import IndexSummary
from usvs.store.indexing import index_archive
from usvs.store.settings import ClipSettings

CLIPS = ClipSettings(clip_seconds=0.5, speech_seconds=0.2, order_spacing_seconds=0.1, order_jitter_seconds=0.01)


def index(archive: Path, store: Path, clips: ClipSettings = CLIPS) -> IndexSummary:
    return index_archive(archive, store, clips=clips, workers=1)


def rows(store: Path) -> dict[str, dict]:
    return {row["path"]: row for row in Catalogue.load(store).scans.to_pylist()}
