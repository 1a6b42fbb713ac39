"""Which scans a report has pictures of."""

import numpy as np
from numpy.typing import NDArray

from usvs.store.catalogue import Catalogue
from usvs.store.prepared import PreparedStore

NO_SECTOR = "whole"  # of the column sector_source: no sector was found, so the frames may show names on the screen


def pictured_scans(store: PreparedStore) -> NDArray[np.bool_]:
    """Return which prepared scans [S] may be shown outside of the store: those with a sector."""
    rows = Catalogue.load(store.store).scans.select(["scan_key", "sector_source"]).to_pylist()
    source_of = {row["scan_key"]: row["sector_source"] for row in rows}
    return np.array([source_of.get(key) != NO_SECTOR for key in store.scans], np.bool_)
