"""A warning, once for each stream, when its embeddings collapse."""

import logging
from collections.abc import Mapping

from usvs.evaluation.embedding_spread import COLLAPSED_RANK, COLLAPSED_SPREAD
from usvs.tasks.pretraining.validation import STREAM_NAMES

logger: logging.Logger = logging.getLogger(__name__)


class CollapseWarning:
    """Checks the validation metrics of a run."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def check(self, values: Mapping[str, float]) -> None:
        """Warn of each stream whose embeddings have collapsed, the first time only."""
        for stream in STREAM_NAMES:
            rank, spread = values.get(f"{stream}_rank"), values.get(f"{stream}_spread")
            if stream in self._warned or rank is None or spread is None:
                continue
            if rank < COLLAPSED_RANK or spread < COLLAPSED_SPREAD:
                self._warned.add(stream)
                logger.warning(
                    f"the {stream} embeddings are nearly all alike: expected a rank of at least {COLLAPSED_RANK:g} and"
                    f" a spread of at least {COLLAPSED_SPREAD:g}, got {rank:.2f} and {spread:.4f}; while that lasts,"
                    " speech and pictures cannot be matched. The run continues; profiles quick and small prevent it"
                    " (objective.stream_weight)"
                )
