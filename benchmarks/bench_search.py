"""A query of the embedding index against plain NumPy and faiss; 10^7 rows of 64 numbers by default.

    python -m pytest benchmarks/bench_search.py --benchmark-json FILE
    USVS_SEARCH_ROWS=200000 python -m pytest benchmarks/bench_search.py

Rows are made like the embeddings of frames: of length 1, in clusters (a scan shows the same for seconds), in float16.
The index is built once into USVS_SEARCH_FOLDER (default: a temporary folder; 1.5 GB for 10^7 rows). Every result has
the recall of the ten nearest rows beside brute force, and how many cells were read. faiss is measured where it is
installed (`pip install faiss-cpu`): an inverted file with as many cells and 16 bits a number, as here.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.format import open_memmap

from usvs.inference.embedding_index import EmbeddingIndex, brute_force, build_index

ROWS = int(os.environ.get("USVS_SEARCH_ROWS", 10_000_000))
WIDTH, CLUSTERS, NEAREST, QUERIES = 64, 20_000, 10, 20
NOISE = 0.08  # of each number, beside the cluster's centre of length 1
BLOCK = 500_000
PROBES = (16, 64, 256)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, EmbeddingIndex, np.ndarray]:
    """The rows, their index, and queries near some of the rows."""
    folder = Path(os.environ.get("USVS_SEARCH_FOLDER") or tmp_path_factory.mktemp("search"))
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLUSTERS, WIDTH)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    file = folder / f"rows_{ROWS}.npy"
    rows = open_memmap(file, "w+", np.float16, (ROWS, WIDTH))
    for start in range(0, ROWS, BLOCK):
        count = min(BLOCK, ROWS - start)
        block = centres[random.integers(0, CLUSTERS, count)]
        block += np.float32(NOISE) * random.standard_normal((count, WIDTH), np.float32)
        rows[start : start + count] = block / np.linalg.norm(block, axis=1, keepdims=True)
    target = folder / f"index_{ROWS}"
    target.mkdir(exist_ok=True)
    began = time.perf_counter()
    build_index(target, rows, {"seconds": 0.0})
    print(f"index of {ROWS} rows built in {time.perf_counter() - began:.0f} s")
    queries = np.asarray(rows[np.sort(random.integers(0, ROWS, QUERIES))], np.float32)
    queries += np.float32(NOISE) * random.standard_normal(queries.shape, np.float32)
    return rows, EmbeddingIndex(target), queries / np.linalg.norm(queries, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def expected(built: tuple[Any, EmbeddingIndex, np.ndarray]) -> list[np.ndarray]:
    """The nearest rows of each query by brute force, a block of the rows at a time."""
    rows, _, queries = built
    best = [(np.zeros(0, np.float32), np.zeros(0, np.int64)) for _ in queries]
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        for number, query in enumerate(queries):
            found = brute_force(block, query, NEAREST)
            score = np.concatenate([best[number][0], found.score])
            row = np.concatenate([best[number][1], found.row + start])
            order = np.lexsort((row, -score))[:NEAREST]
            best[number] = score[order], row[order]
    return [row for _, row in best]


def measure(
    benchmark: Any, queries: np.ndarray, expected: list[np.ndarray], search: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Time one query after the other, and record recall."""
    found = [search(query) for query in queries]  # also reads what is mapped once
    recall = np.mean([np.isin(right, rows).mean() for right, rows in zip(expected, found, strict=True)])
    benchmark.extra_info.update(rows=ROWS, width=WIDTH, nearest=NEAREST, recall=float(recall))
    turn = iter(range(1 << 60))
    benchmark.pedantic(lambda: search(queries[next(turn) % len(queries)]), rounds=3 * QUERIES, iterations=1)


@pytest.mark.parametrize("probes", [None, *PROBES], ids=lambda probes: "exact" if probes is None else f"{probes}-cells")
def bench_index(benchmark: Any, built: Any, expected: Any, probes: int | None):
    _, index, queries = built
    benchmark.extra_info["cells"] = index.cells
    measure(benchmark, queries, expected, lambda query: index.search(query, NEAREST, probes).row)


def bench_numpy(benchmark: Any, built: Any, expected: Any):
    rows, _, queries = built

    def search(query: np.ndarray) -> np.ndarray:
        scores = [rows[start : start + BLOCK].astype(np.float32) @ query for start in range(0, ROWS, BLOCK)]
        return np.argpartition(np.concatenate(scores), ROWS - NEAREST)[-NEAREST:]

    measure(benchmark, queries[:4], expected[:4], search)


@pytest.mark.parametrize("probes", PROBES, ids=lambda probes: f"{probes}-cells")
def bench_faiss(benchmark: Any, built: Any, expected: Any, probes: int):
    faiss = pytest.importorskip("faiss", reason="faiss is not installed: pip install faiss-cpu")
    rows, own, queries = built
    quantiser = faiss.IndexFlatIP(WIDTH)
    index = faiss.IndexIVFScalarQuantizer(
        quantiser, WIDTH, own.cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    chosen = np.sort(np.random.default_rng(0).choice(ROWS, min(ROWS, 64 * own.cells), replace=False))
    index.train(np.asarray(rows[chosen], np.float32))
    for start in range(0, ROWS, BLOCK):
        index.add(np.asarray(rows[start : start + BLOCK], np.float32))
    index.nprobe = probes
    measure(benchmark, queries, expected, lambda query: index.search(query[None], NEAREST)[1][0])
