"""How many directions embeddings use, and how far apart they are: the signs of a collapsed stream."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# Measured on a real archive (issue 15): the rank of video embeddings fell to 1.4 in runs that learnt nothing, and was
# 10 to 16 in runs that left chance.
COLLAPSED_RANK = 2.0
# Similarities then differ by some thousandths: at a temperature of 0.2 the loss can differ from chance by about 0.01.
COLLAPSED_SPREAD = 0.001
MIN_ROWS = 8  # fewer embeddings have a low rank in any case


class EmbeddingSpread(NamedTuple):
    """Statistics of n embeddings.

    Attributes:
        rank: effective rank: exp of the entropy of the normalised squared singular values of the centred embeddings; 1
            where they are on a line, up to the smaller of their width and n - 1.
        spread: 1 - |mean of the embeddings at length 1|^2, that is the mean of 1 - cosine over all pairs: 0 where all
            have one direction, 1 where directions cancel.
        rows: n.
    """

    rank: float
    spread: float
    rows: int

    @property
    def collapsed(self) -> bool:
        """Whether nearly all embeddings are alike or on a line, so that nothing can be matched by them."""
        return self.rows >= MIN_ROWS and (self.rank < COLLAPSED_RANK or self.spread < COLLAPSED_SPREAD)


def embedding_spread(embeddings: ArrayLike) -> EmbeddingSpread:
    """Return effective rank and spread of embeddings [n, d]; NaN without embeddings or where one is not finite.

    Source: effective rank as of Roy and Vetterli, EUSIPCO 2007, with squared singular values.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    if not len(rows) or not np.isfinite(rows).all():
        return EmbeddingSpread(float("nan"), float("nan"), len(rows))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.where(lengths > 0, lengths, 1.0)
    spread = 1.0 - float(np.square(unit.mean(axis=0)).sum()) if lengths.any() else 0.0
    squares = np.square(np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False))
    if squares.sum() <= 1e-12 * np.square(rows).sum():  # all equal, except for rounding
        return EmbeddingSpread(1.0, spread, len(rows))
    fractions = squares[squares > 0] / squares.sum()
    return EmbeddingSpread(float(np.exp(-(fractions * np.log(fractions)).sum())), spread, len(rows))
