"""The index of embeddings: exact where it says so, whatever the cells; with few cells visited, recall is counted."""

import numpy as np
import pytest

from usvs.errors import DataError
from usvs.inference.embedding_index import EMBEDDINGS, EmbeddingIndex, brute_force, build_index


def clustered(count: int, width: int = 16, unit: bool = True) -> np.ndarray:
    random = np.random.default_rng(0)
    centres = random.normal(size=(40, width))
    rows = centres[random.integers(0, 40, count)] + 0.3 * random.normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True) if unit else rows).astype(np.float32)


@pytest.mark.parametrize("cells", [None, 1, 7, 60])
@pytest.mark.parametrize("unit", [True, False])
def test_the_exact_search_equals_brute_force(tmp_path, cells, unit):
    rows = clustered(3000, unit=unit)
    build_index(tmp_path, rows, {"any": 1}, cells)
    index = EmbeddingIndex(tmp_path)
    assert len(index) == 3000 and index.cells == (cells or 1) and index.description == {"any": 1}
    for query in np.random.default_rng(1).normal(size=(20, 16)).astype(np.float32):
        found, expected = index.search(query, 25), brute_force(rows, query, 25)
        np.testing.assert_array_equal(found.row, expected.row)
        np.testing.assert_allclose(found.score, expected.score, rtol=1e-5, atol=1e-5)


def test_equal_rows_come_in_their_order_and_more_than_all_is_all(tmp_path):
    rows = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    build_index(tmp_path, rows, {}, 3)
    index = EmbeddingIndex(tmp_path)
    assert index.search(np.eye(4, dtype=np.float32)[2], 5).row.tolist() == [10, 11, 12, 13, 14]
    assert sorted(index.search(np.ones(4, np.float32), 99).row.tolist()) == list(range(20))


def test_few_cells_find_most_of_the_nearest_rows(tmp_path):
    rows = clustered(20_000)
    build_index(tmp_path, rows, {}, 100)
    index = EmbeddingIndex(tmp_path)
    recalls = [
        np.isin(brute_force(rows, query, 10).row, index.search(query, 10, probes=16).row).mean()
        for query in rows[::1000]
    ]
    assert np.mean(recalls) > 0.95
    least = [np.isin(brute_force(rows, q, 10).row, index.search(q, 10, probes=1).row).mean() for q in rows[::1000]]
    assert np.mean(least) < np.mean(recalls)


@pytest.mark.slow
def test_more_clusters_than_cells_are_divided_evenly(tmp_path):
    """As in a large archive, whose scans show thousands of things; centroids that are single rows attract a search."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((20_000, 64), np.float32)
    rows = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    rows = rows[random.integers(0, 20_000, 100_000)] + np.float32(0.08) * random.standard_normal(
        (100_000, 64), np.float32
    )
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    build_index(tmp_path, rows, {}, 1000)
    index, queries = EmbeddingIndex(tmp_path), rows[::4000]
    recalls = [np.isin(brute_force(rows, q, 10).row, index.search(q, 10, probes=8).row).mean() for q in queries]
    assert np.mean(recalls) > 0.5


def test_only_cells_that_can_hold_the_best_rows_are_read(tmp_path, monkeypatch):
    rows = clustered(20_000)
    build_index(tmp_path, rows, {}, 100)
    index, read = EmbeddingIndex(tmp_path), []
    scores = EmbeddingIndex._scores
    monkeypatch.setattr(EmbeddingIndex, "_scores", lambda self, cell, q: (read.append(cell), scores(self, cell, q))[1])
    index.search(rows[5], 10)
    assert len(read) < 80


def test_an_incomplete_index_is_an_error(tmp_path):
    with pytest.raises(DataError, match="expected a complete index"):
        EmbeddingIndex(tmp_path)
    build_index(tmp_path, clustered(50), {})
    (tmp_path / EMBEDDINGS).write_bytes((tmp_path / EMBEDDINGS).read_bytes()[:-5])
    with pytest.raises(DataError, match=r"expected a complete index, got expected \d+ bytes"):
        EmbeddingIndex(tmp_path)


def test_the_files_are_the_owners_only(tmp_path):
    build_index(tmp_path, clustered(50), {})
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
