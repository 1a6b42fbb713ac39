import numpy as np
import pytest

from usvs.evaluation.embedding_spread import embedding_spread


def noise(rows: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, width))


def test_the_rank_is_the_number_of_directions():
    for rank in (1, 3, 8):
        found = embedding_spread(noise(4000, rank) @ np.linalg.qr(noise(16, rank))[0].T)
        assert found.rank == pytest.approx(rank, rel=0.01) and found.collapsed == (rank == 1)


def test_a_constant_added_to_all_changes_the_spread_and_not_the_rank():
    rows = noise(500, 8)
    far = embedding_spread(rows + 1000.0)
    assert far.rank == pytest.approx(embedding_spread(rows).rank, rel=1e-6)
    assert embedding_spread(rows).spread > 0.95 and far.spread < 1e-4 and far.collapsed


@pytest.mark.parametrize("rows", [np.ones((20, 4)), np.zeros((20, 4)), np.full((20, 4), 1 / 3) * 1e6])
def test_equal_embeddings_have_collapsed(rows):
    found = embedding_spread(rows)
    assert found.rank == 1.0 and found.spread == pytest.approx(0.0, abs=1e-9) and found.collapsed


def test_too_few_or_damaged_embeddings_are_not_judged():
    assert not embedding_spread(np.ones((3, 4))).collapsed
    assert np.isnan(embedding_spread(np.full((20, 4), np.nan)).rank) and np.isnan(
        embedding_spread(np.ones((0, 4))).rank
    )
    assert not embedding_spread(np.full((20, 4), np.inf)).collapsed
