"""Search in the scans of a store by speech, by a spoken text or by a frame: ranked moments."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from usvs.data.settings import TEMPORAL_STRIDE
from usvs.errors import ConfigError, DataError
from usvs.inference.frames import read_image_frame
from usvs.inference.scan_index import ScanIndex
from usvs.inference.spoken_prompts import embed_recording, embed_text
from usvs.narration.spoken import VOICES, draw_voices
from usvs.narration.voice import Voice
from usvs.store.catalogue import Catalogue
from usvs.store.keys import KEY_FILE, Keys
from usvs.tasks.pretraining.shared_space import SharedSpace
from usvs.utils.text import printable, quantity

TOP = 10
MERGE_SECONDS = 2.0  # nearer moments of one scan are one: the length of a clip
PROBES = 64  # cells of the index that are read
LEAST_LENGTH = 1e-12
FIRST_ROWS = 8  # rows that are fetched for each moment, at first


class Moment(NamedTuple):
    """One time of one scan.

    Attributes:
        scan: keyed hash of the scan.
        seconds: on the scan's clock.
        score: similarity with the query.
        path: of the scan in the archive, for the owner of the store; None without the store's private key.
        number: of the scan in the store.
    """

    scan: str
    seconds: float
    score: float
    path: str | None
    number: int


class SearchResult(NamedTuple):
    """What a search found.

    Attributes:
        query: it was for, as text.
        moments: the most similar first; of near ones of a scan only the best.
        frames: number of frames that were searched.
    """

    query: str
    moments: tuple[Moment, ...]
    frames: int

    def __str__(self) -> str:
        lines = [f"{self.query}: {quantity(len(self.moments), 'moment')} of {quantity(self.frames, 'frame')}"]
        for rank, one in enumerate(self.moments, start=1):
            path = "" if one.path is None else f"\t{printable(one.path)}"
            lines.append(f"{rank}\t{one.scan}\t{one.seconds:.2f} s\tscore {one.score:.3f}{path}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; times are in seconds."""
        moments = [
            {"scan": one.scan, "seconds": one.seconds, "score": one.score, "path": one.path} for one in self.moments
        ]
        return {"query": self.query, "frames": self.frames, "moments": moments}


def search(
    store: str | Path,
    run: str | Path,
    *,
    say: str | Sequence[str] | None = None,
    speech: str | Path | None = None,
    frame: str | Path | None = None,
    voices: int | Sequence[Voice] = VOICES,
    top: int = TOP,
    stride: int = TEMPORAL_STRIDE,
    merge_seconds: float = MERGE_SECONDS,
    exact: bool = False,
) -> SearchResult:
    """Find the moments of a store's scans that are most similar to a query, in the shared space of a run.

    The frames are embedded at the first search of a store and kept in the run's folder; nothing of the archive is
    written there but keyed hashes.

    Example:
        >>> print(usvs.search("STORE", "RUN", say="four chamber view"))

    Args:
        store: a prepared store; the run may have been pretrained on another one.
        run: a pretraining run whose loss compares frames with speech.
        say: a text, or several that mean the same, spoken by espeak-ng.
        speech: an audio file with a query of at most a minute.
        frame: an image file; its sector is detected.
        voices: number of voices that speak the text, or the voices.
        top: number of moments.
        stride: every `stride`-th frame of a scan is searched.
        merge_seconds: of moments of one scan that are nearer than this, the best is kept.
        exact: read every part of the index that can hold one of the best frames. Without it, of more than
            `usvs.inference.embedding_index.FLAT_ROWS` frames the `PROBES` nearest parts are read, in milliseconds.

    Raises:
        ConfigError: for another number of queries than one, or a run without shared space.
        DataError: for a store, a run or a file that cannot be read.
        MissingDependencyError: for a text where espeak-ng is not installed.
    """
    given = {"say": say, "speech": speech, "frame": frame}
    if sum(value is not None for value in given.values()) != 1:
        named = [name for name, value in given.items() if value is not None]
        raise ConfigError(f"query: expected one of say, speech and frame, got {' and '.join(named) or 'none'}")
    if top < 1 or stride < 1 or not merge_seconds >= 0:
        raise ConfigError(
            f"search: expected top >= 1, stride >= 1 and merge_seconds >= 0, got {top}, {stride} and {merge_seconds}"
        )
    space = SharedSpace.load(run)
    if say is not None:
        texts = (say,) if isinstance(say, str) else tuple(say)
        chosen = draw_voices(voices) if isinstance(voices, int) else tuple(voices)
        query, title = embed_text(space, texts, chosen), f"'{', '.join(texts)}' in {quantity(len(chosen), 'voice')}"
    elif speech is not None:
        query, title = embed_recording(space, Path(speech)), f"audio '{speech}'"
    else:
        assert frame is not None
        query = space.embed_frames(read_image_frame(Path(frame), space.prepared_pixels)[None])[0]
        title = f"image '{frame}'"
    if space.settings.objective.normalise:  # as the run compared embeddings; a mean of several is shorter
        query = query / max(float(np.linalg.norm(query)), LEAST_LENGTH)
    index = ScanIndex.open(store, run, space, stride)
    rows, scores = nearest_moments(index, query, top, merge_seconds, None if exact else PROBES)
    paths = _owner_paths(Path(store))
    moments = [
        Moment(
            index.store.scans[number],
            float(index.seconds[row]),
            float(score),
            paths.get(index.store.scans[number]),
            number,
        )
        for row, score in zip(rows, scores, strict=True)
        for number in [int(index.scan[row])]
    ]
    return SearchResult(title, tuple(moments), len(index))


def nearest_moments(
    index: ScanIndex, query: NDArray[np.float32], top: int, merge_seconds: float, probes: int | None = None
) -> tuple[list[int], list[float]]:
    """Return rows and scores of the `top` best frames, no two of one scan nearer than `merge_seconds`.

    `probes` is as of `EmbeddingIndex.search`; with few cells there may be fewer moments.
    """
    asked = FIRST_ROWS * top
    while True:
        found = index.index.search(query, min(asked, len(index)), probes)
        kept: list[int] = []
        scores: list[float] = []
        times: dict[int, list[float]] = {}
        for row, score in zip(found.row.tolist(), found.score.tolist(), strict=True):
            near = times.setdefault(int(index.scan[row]), [])
            moment = float(index.seconds[row])
            if all(abs(moment - other) >= merge_seconds for other in near):
                near.append(moment)
                kept.append(row)
                scores.append(score)
                if len(kept) == top:
                    return kept, scores
        if asked >= len(index) or len(found.row) < asked:
            return kept, scores
        asked *= 4


def _owner_paths(store: Path) -> Mapping[str, str]:
    """Return the path of each scan in the archive by its key; empty without the store's private key."""
    if not (store / KEY_FILE).is_file():
        return {}
    try:
        Keys.load(store)
    except (DataError, PermissionError):
        return {}
    return Catalogue.load(store).paths
