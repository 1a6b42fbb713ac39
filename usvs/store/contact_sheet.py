"""Contact sheets: one frame of every scan with the crop of its sector, to be checked by eye. Scans are named by hash.

The image outside the crop may contain names, so it is pixelated too coarsely to be read.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.media.box import Box
from usvs.media.video import iter_gray_frames, iter_keyframes, read_video_info
from usvs.store.catalogue import OK, Catalogue
from usvs.store.folder import read_archive_path
from usvs.utils.atomic_files import write_durably, writing
from usvs.utils.private_files import make_private_folder
from usvs.utils.process_pool import map_tasks
from usvs.utils.progress import track

Picture = NDArray[np.uint8]

COLUMNS, ROWS = 5, 6  # tiles per page
TILE_SIZE, CAPTION_HEIGHT, GAP, LEGEND_HEIGHT = (320, 240), 38, 6, 24  # px
BLOCKS = 24  # along the height, outside the crop: letters are smaller than one block
DIMMING = 0.65  # of the gray levels outside the crop
CROP_COLOURS = {  # BGR, by the source of the crop
    "found": (90, 200, 90),
    "region": (230, 170, 60),
    "manifest": (220, 110, 200),
    "whole": (60, 60, 235),
}
LIST_FILE = "sectors.csv"
LIST_COLUMNS = ("confidence", "source", "scan", "file", "sector")
SIDES = ("left", "top", "right", "bottom")
LEGEND = {
    "found": "detected in the pixels",
    "region": "stated by the file",
    "manifest": "manifest.csv",
    "whole": "no sector found",
}


@dataclass(frozen=True)
class TileTask:
    """One scan to draw: the folder of its archive and its row of the catalogue."""

    archive: Path
    row: dict[str, Any]


def save_contact_sheets(store: str | Path, out: str | Path, workers: int | None = None) -> tuple[Path, ...]:
    """Draw every usable scan of a store with its crop, thirty per page, as ``OUT/sectors_001.png`` and so on.

    Args:
        store: a folder made by `index_archive`.
        out: folder of the pages, created if it does not exist.
        workers: number of processes; None is one per core.

    Returns:
        The files of the pages.

    Raises:
        DataError: if `store` is not a store, its archive does not exist or `out` cannot be written.
    """
    store = Path(store)
    return draw_contact_sheets(read_archive_path(store), Catalogue.load(store).scans.to_pylist(), out, workers)


def draw_contact_sheets(
    archive: Path, rows: Iterable[dict[str, Any]], out: str | Path, workers: int | None = None
) -> tuple[Path, ...]:
    """Draw the usable ones of the rows of a catalogue, see `save_contact_sheets`; only their owner may read the files.

    The least certain sectors are drawn first; ``OUT/sectors.csv`` lists them in the same order, with the names of their
    files and the crops as manifest.csv takes them.

    Raises:
        ResourceError: if `out` cannot be written.
    """
    out = Path(out)
    usable = sorted((row for row in rows if row["status"] == OK), key=lambda row: float(row["sector_confidence"]))
    tasks = [TileTask(archive, row) for row in usable]
    tiles = (tile for _, tile in track(map_tasks(draw_tile, tasks, workers), "drawing sectors", total=len(tasks)))
    with writing(f"folder '{out}'"):
        make_private_folder(out)
        write_durably(out / LIST_FILE, _list_sectors(usable))
    pages: list[Path] = []
    for number, page in enumerate(_arrange_pages(tile for tile in tiles if not isinstance(tile, DataError)), start=1):
        pages.append(out / f"sectors_{number:03d}.png")
        with writing(f"'{pages[-1]}'"):
            write_durably(pages[-1], cv2.imencode(".png", page)[1].tobytes())
    return tuple(pages)


def _list_sectors(rows: Sequence[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(LIST_COLUMNS)
    for row in rows:
        sector = ",".join(str(row[f"sector_{side}"]) for side in SIDES)
        table.writerow([f"{row['sector_confidence']:.2f}", row["sector_source"], row["scan_key"], row["path"], sector])
    return text.getvalue().encode("utf-8", "surrogateescape")


def draw_tile(task: TileTask) -> Picture:
    """Draw a frame from the middle of a scan, pixelated outside the crop [H, W, 3]."""
    row = task.row
    crop = Box(*(int(row[f"sector_{side}"]) for side in SIDES))
    picture = _middle_frame(task.archive / str(row["path"]))
    tile = np.full((TILE_SIZE[1] + CAPTION_HEIGHT, TILE_SIZE[0], 3), 24, np.uint8)
    if picture is not None:
        _draw_picture(tile, _pixelate_outside(picture, crop), crop, CROP_COLOURS[row["sector_source"]])
    companions = ", ".join(kind for kind in ("sound", "gaze", "planes") if row[kind] not in ("none", False))
    texts = (
        f"{row['scan_key']}  {row['width']} x {row['height']}  confidence {row['sector_confidence']:.2f}",
        f"{row['frames']} frames, {row['duration_seconds']:.1f} s" + (f", {companions}" if companions else ""),
    )
    for line, text in enumerate(texts):
        _write(tile, text, (4, TILE_SIZE[1] + 15 + 16 * line), (225, 225, 225))
    return tile


def _middle_frame(path: Path) -> Picture | None:
    try:
        info = read_video_info(path)
        keys = info.timing.keyframes
        found = next(iter_keyframes(path, info, keys[len(keys) // 2 :][:1]), None) if len(keys) else None
        return found if found is not None else next((gray for _, gray in iter_gray_frames(path, info)), None)
    except (DataError, OSError):
        return None


def _pixelate_outside(picture: Picture, crop: Box) -> Picture:
    height, width = picture.shape
    blocks = (max(1, round(BLOCKS * width / height)), BLOCKS)
    coarse = cv2.resize(cv2.resize(picture, blocks, interpolation=cv2.INTER_AREA), (width, height), interpolation=0)
    pixelated: Picture = (coarse * DIMMING).astype(np.uint8)
    inside = (slice(crop.top, crop.bottom), slice(crop.left, crop.right))
    pixelated[inside] = picture[inside]
    return pixelated


def _draw_picture(tile: Picture, picture: Picture, crop: Box, colour: tuple[int, int, int]) -> None:
    height, width = picture.shape
    scale = min(TILE_SIZE[0] / width, TILE_SIZE[1] / height)
    small = cv2.resize(picture, (max(1, int(width * scale)), max(1, int(height * scale))), interpolation=cv2.INTER_AREA)
    left, top = (TILE_SIZE[0] - small.shape[1]) // 2, (TILE_SIZE[1] - small.shape[0]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small[:, :, None]
    corners = [
        (round(x * scale) + left, round(y * scale) + top) for x, y in ((crop.left, crop.top), (crop.right, crop.bottom))
    ]
    cv2.rectangle(tile, corners[0], (corners[1][0] - 1, corners[1][1] - 1), colour, 1)


def _arrange_pages(tiles: Iterable[Picture]) -> Iterator[Picture]:
    remaining = iter(tiles)
    across, down = TILE_SIZE[0] + GAP, TILE_SIZE[1] + CAPTION_HEIGHT + GAP
    while batch := list(islice(remaining, COLUMNS * ROWS)):
        rows = -(-len(batch) // COLUMNS)
        page = np.full((rows * down + GAP + LEGEND_HEIGHT, COLUMNS * across + GAP, 3), 12, np.uint8)
        for number, tile in enumerate(batch):
            top, left = number // COLUMNS * down + GAP, number % COLUMNS * across + GAP
            page[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        for number, (source, meaning) in enumerate(LEGEND.items()):
            _write(page, meaning, (GAP + 300 * number, page.shape[0] - 8), CROP_COLOURS[source])
        yield page


def _write(picture: Picture, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
