"""Fixtures of labelled stores."""

import pytest

from tests.support.labelled_stores import gaze_store, grating_store, noise_store, store_writer, tiny_planes
from usvs.data.frame_table import labelled_frames
from usvs.evaluation.folds import make_folds
from usvs.store.prepared import PreparedStore

__all__ = ["gaze_store", "grating_store", "noise_store", "store_writer", "tiny_planes"]


@pytest.fixture(scope="module")
def halves(grating_store):
    """The store, and the tables of its training and test patients."""
    store = PreparedStore(grating_store)
    table = labelled_frames(store, stride=1)
    fold = make_folds(table.group.tolist(), 2, seed=0)[0]
    return store, table.of_groups(fold.train), table.of_groups(fold.test)
