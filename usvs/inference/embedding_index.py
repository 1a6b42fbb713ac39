"""An index of embeddings on disk: the nearest of up to 10^7 rows without reading them all.

Rows are sorted into cells around centroids (an inverted file, Sivic and Zisserman, ICCV 2003), each with the radius
within which its rows are. No row of a cell is more similar to a query than ``q . centroid + |q| radius`` (Cauchy and
Schwarz), so a search that continues until no cell left can hold a better row is exact; one that visits a given number
of cells is approximate and faster. Files are mapped: what is not visited is not read.
"""

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.utils.atomic_files import write_text
from usvs.utils.columns import map_column
from usvs.utils.private_files import make_private
from usvs.utils.regular_files import read_regular_text

EMBEDDINGS, ROWS, CENTROIDS, CELLS, RADII = "embeddings.npy", "rows.npy", "centroids.npy", "cells.npy", "radii.npy"
DESCRIPTION = "index.json"
FLAT_ROWS = 100_000  # up to this many, one cell holds all rows: reading them takes milliseconds
SAMPLE_PER_CELL = 64  # rows that a centroid is computed from
ITERATIONS = 10  # of k-means
BLOCK_ROWS = 65_536
BATCH_CELLS = 16  # visited together
SEED = 0


class Nearest(NamedTuple):
    """The most similar rows, most similar first.

    Attributes:
        row: [k] numbers of the rows in the order in which they were given.
        score: [k] dot products with the query.
    """

    row: NDArray[np.int64]
    score: NDArray[np.float32]


class EmbeddingIndex:
    """Search of the rows of an index that `build_index` wrote.

    Args:
        folder: of the index.

    Raises:
        DataError: for a folder that is not a complete index.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.description: dict[str, Any] = json.loads(read_regular_text(folder / DESCRIPTION))
            self._embeddings: NDArray[np.float16] = map_column(folder / EMBEDDINGS)
            self._rows: NDArray[np.int64] = map_column(folder / ROWS)
            self._centroids: NDArray[np.float32] = map_column(folder / CENTROIDS)
            self._cells: NDArray[np.int64] = map_column(folder / CELLS)
            self._radii: NDArray[np.float32] = map_column(folder / RADII)
        except (OSError, ValueError) as error:
            raise DataError(f"index '{folder}': expected a complete index, got {error}") from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the mapped file is read-only, and only read
            self._tensor = torch.from_numpy(self._embeddings)

    def __len__(self) -> int:
        return len(self._embeddings)

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self._radii)

    def search(self, query: NDArray[np.float32], k: int, probes: int | None = None) -> Nearest:
        """Return the k most similar rows.

        Args:
            query: [d].
            k: number of rows; fewer are returned where the index has fewer.
            probes: number of cells to visit; None: as many as are needed for the exact result.
        """
        query = np.asarray(query, np.float32)
        near = self._centroids @ query
        bound = near + np.float32(np.linalg.norm(query)) * self._radii
        # approximate: the nearest centroids; exact: those that can hold the best rows
        order = np.argsort(-(near if probes is not None else bound), kind="stable")
        order = order if probes is None else order[: max(1, probes)]
        score, row = np.zeros(0, np.float32), np.zeros(0, np.int64)
        for start in range(0, len(order), BATCH_CELLS):
            batch = order[start : start + BATCH_CELLS]
            if probes is None and len(score) == k and bound[batch[0]] < score[-1]:
                break
            scores = [score, *(self._scores(cell, query) for cell in batch)]
            rows = [row, *(self._rows[self._cells[cell] : self._cells[cell + 1]] for cell in batch)]
            score, row = _best(np.concatenate(scores), np.concatenate(rows), k)
        return Nearest(row, score)

    def _scores(self, cell: int, query: NDArray[np.float32]) -> NDArray[np.float32]:
        first, end = self._cells[cell], self._cells[cell + 1]
        vector = torch.from_numpy(query)
        # torch converts from float16 three times as fast as NumPy
        parts = [
            self._tensor[start : min(start + BLOCK_ROWS, end)].float() @ vector
            for start in range(first, end, BLOCK_ROWS)
        ]
        return np.asarray(torch.cat(parts).numpy()) if parts else np.zeros(0, np.float32)


def build_index(folder: Path, embeddings: NDArray[Any], description: dict[str, Any], cells: int | None = None) -> None:
    """Write an index.

    Args:
        folder: that exists; files in it are replaced.
        embeddings: [n, d], an array or a mapped file; a block of it is in memory at a time.
        description: plain values that are kept with it.
        cells: number of cells; None: one up to `FLAT_ROWS` rows, otherwise about the square root of the rows.
    """
    count, width = embeddings.shape
    asked = cells or (1 if count <= FLAT_ROWS else int(np.sqrt(count)))
    centroids = _centroids(embeddings, min(asked, max(1, count)))
    cell = np.empty(count, np.int32)
    for block in _blocks(count):
        rows = np.asarray(embeddings[block], np.float32)
        cell[block] = _nearest_centroid(rows, centroids)
    order = np.argsort(cell, kind="stable")
    bounds = np.searchsorted(cell[order], np.arange(len(centroids) + 1)).astype(np.int64)
    target = open_memmap(folder / EMBEDDINGS, "w+", np.float16, (count, width))
    radii = np.zeros(len(centroids), np.float32)
    for block in _blocks(count):
        target[block] = embeddings[order[block]]
        distance = np.linalg.norm(target[block].astype(np.float32) - centroids[cell[order[block]]], axis=1)
        np.maximum.at(radii, cell[order[block]], distance)
    target.flush()
    np.save(folder / ROWS, order.astype(np.int64))
    np.save(folder / CENTROIDS, centroids)
    np.save(folder / CELLS, bounds)
    np.save(folder / RADII, radii * np.float32(1 + 1e-5))  # rounding must not hide a row
    for name in (EMBEDDINGS, ROWS, CENTROIDS, CELLS, RADII):
        make_private(folder / name)
    write_text(folder / DESCRIPTION, json.dumps(description, indent=1))


def brute_force(embeddings: NDArray[Any], query: NDArray[np.float32], k: int) -> Nearest:
    """Return what an exact search returns, from all rows as they are stored (float16)."""
    stored = np.asarray(embeddings, np.float16).astype(np.float32)
    score, row = _best(stored @ np.asarray(query, np.float32), np.arange(len(stored)), k)
    return Nearest(row, score)


def _best(score: NDArray[np.float32], row: NDArray[np.int64], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the k largest scores and their rows; of equal ones the smaller row number first."""
    if len(score) > 4 * k:
        least = np.partition(score, len(score) - k)[len(score) - k]
        kept = score >= least
        score, row = score[kept], row[kept]
    order = np.lexsort((row, -score))[:k]
    return score[order], row[order]


def _blocks(count: int) -> Iterable[slice]:
    return (slice(start, min(start + BLOCK_ROWS, count)) for start in range(0, count, BLOCK_ROWS))


def _centroids(embeddings: NDArray[Any], cells: int) -> NDArray[np.float32]:
    if cells == 1:
        mean = np.zeros(embeddings.shape[1], np.float64)
        for block in _blocks(len(embeddings)):
            mean += np.asarray(embeddings[block], np.float64).sum(axis=0) / max(1, len(embeddings))
        return mean.astype(np.float32)[None]
    from sklearn.cluster import KMeans  # slow to import, and needed for large archives only

    rng = np.random.default_rng(SEED)
    chosen = np.sort(rng.choice(len(embeddings), min(len(embeddings), SAMPLE_PER_CELL * cells), replace=False))
    sample = np.asarray(embeddings[chosen], np.float32)
    # Not in mini-batches: these end early, and the cells divide the rows so unevenly that a search finds half as many.
    clusters = KMeans(cells, init="random", n_init=1, max_iter=ITERATIONS, random_state=SEED)
    return np.asarray(clusters.fit(sample).cluster_centers_, np.float32)


def _nearest_centroid(rows: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    half_norm = 0.5 * np.square(centroids).sum(axis=1)
    return np.asarray((rows @ centroids.T - half_norm).argmax(axis=1))
