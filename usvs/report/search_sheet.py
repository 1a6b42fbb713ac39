"""A sheet of what a search found: the frame of each moment with its rank, time, score and the key of its scan."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from usvs.inference.search import SearchResult
from usvs.report.plots import new_figure, plot_text, save_figure
from usvs.store.prepared import PreparedStore

COLUMNS = 5
SHEET_FILE = "search.png"
MAX_TITLE_LETTERS = 90


def search_figure(found: SearchResult, store: PreparedStore) -> Figure:
    """Draw the prepared frame of each moment, the best first."""
    columns = min(COLUMNS, max(1, len(found.moments)))
    rows = max(1, -(-len(found.moments) // columns))
    figure = new_figure(2.1 * max(columns, 3), 2.6 * rows + 0.5)
    figure.suptitle(plot_text(found.query, MAX_TITLE_LETTERS), fontsize=9)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for rank, (axes, one) in enumerate(zip(panels, found.moments, strict=False), start=1):
        scan = store.scan(one.number)
        picture = scan.frames(scan.nearest_frames(np.array([one.seconds])))[0]
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{rank}. {one.scan}\n{one.seconds:.1f} s, score {one.score:.2f}", fontsize=7)
    return figure


def save_search_sheet(found: SearchResult, store: str | Path, folder: Path) -> Path:
    """Write the sheet of a search as ``FOLDER/search.png``, for its owner only; return the file."""
    return save_figure(search_figure(found, PreparedStore(Path(store))), folder / SHEET_FILE)
