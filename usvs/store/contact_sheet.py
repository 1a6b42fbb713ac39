"""Contact sheets of the fans that were found, for a person to look through; scans named by keyed hash.

What lies outside of the box may hold names, so it is drawn in blocks too coarse to read.
"""

from collections.abc import Iterable, Iterator
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
from usvs.store.folder import archive_of
from usvs.utils.process_pool import run_each
from usvs.utils.progress import track

Picture = NDArray[np.uint8]

COLUMNS, ROWS = 5, 6
TILE, CAPTION, GAP = (320, 240), 38, 6
BLOCKS = 24  # blocks along the height outside of the box: letters are smaller than one
DIMMED = 0.65
COLOURS = {"found": (90, 200, 90), "region": (230, 170, 60), "manifest": (220, 110, 200), "whole": (60, 60, 235)}
LEGEND = {"found": "found in the pixels", "region": "the file's own", "manifest": "manifest.csv", "whole": "no fan"}


@dataclass(frozen=True)
class TileTask:
    """One scan to draw: its row of the catalogue."""

    archive: Path
    row: dict[str, Any]


def save_contact_sheets(store: Path, out: Path, workers: int | None = None) -> tuple[Path, ...]:
    """Draw every usable scan of a store with its box, thirty to a page, as ``OUT/fans_001.png`` and so on.

    Raises:
        DataError: where `store` is no store, its archive is gone or `out` cannot be written.
    """
    archive = archive_of(store)
    rows = [row for row in Catalogue.load(store).scans.to_pylist() if row["status"] == OK]
    tasks = [TileTask(archive, row) for row in rows]
    tiles = (tile for _, tile in track(run_each(draw_tile, tasks, workers), "drawing fans", total=len(tasks)))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"'{out}' cannot be made: {error.strerror}") from None
    pages: list[Path] = []
    for number, page in enumerate(_pages(tile for tile in tiles if not isinstance(tile, DataError)), start=1):
        pages.append(out / f"fans_{number:03d}.png")
        if not cv2.imwrite(str(pages[-1]), page):
            raise DataError(f"'{out}' cannot be written to")
    return tuple(pages)


def draw_tile(task: TileTask) -> Picture:
    """Draw one scan: a frame of its middle, sharp inside of the box only [H, W, 3]."""
    row = task.row
    box = Box(*(int(row[f"sector_{side}"]) for side in ("left", "top", "right", "bottom")))
    picture = _middle(task.archive / str(row["path"]))
    tile = np.full((TILE[1] + CAPTION, TILE[0], 3), 24, np.uint8)
    if picture is not None:
        _place(tile, _veiled(picture, box), box, COLOURS[row["sector_source"]])
    beside = ", ".join(kind for kind in ("sound", "gaze", "planes") if row[kind] not in ("none", False))
    texts = (
        f"{row['scan_key']}  {row['width']} x {row['height']}",
        f"{row['frames']} frames, {row['duration_seconds']:.1f} s" + (f", {beside}" if beside else ""),
    )
    for line, text in enumerate(texts):
        _write(tile, text, (4, TILE[1] + 15 + 16 * line), (225, 225, 225))
    return tile


def _middle(path: Path) -> Picture | None:
    try:
        info = read_video_info(path)
        keys = info.timing.keyframes
        found = next(iter_keyframes(path, info, keys[len(keys) // 2 :][:1]), None) if len(keys) else None
        return found if found is not None else next((gray for _, gray in iter_gray_frames(path, info)), None)
    except (DataError, OSError):
        return None


def _veiled(picture: Picture, box: Box) -> Picture:
    height, width = picture.shape
    blocks = (max(1, round(BLOCKS * width / height)), BLOCKS)
    coarse = cv2.resize(cv2.resize(picture, blocks, interpolation=cv2.INTER_AREA), (width, height), interpolation=0)
    veiled: Picture = (coarse * DIMMED).astype(np.uint8)
    inside = (slice(box.top, box.bottom), slice(box.left, box.right))
    veiled[inside] = picture[inside]
    return veiled


def _place(tile: Picture, picture: Picture, box: Box, colour: tuple[int, int, int]) -> None:
    height, width = picture.shape
    scale = min(TILE[0] / width, TILE[1] / height)
    small = cv2.resize(picture, (max(1, int(width * scale)), max(1, int(height * scale))), interpolation=cv2.INTER_AREA)
    left, top = (TILE[0] - small.shape[1]) // 2, (TILE[1] - small.shape[0]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small[:, :, None]
    corners = [
        (round(x * scale) + left, round(y * scale) + top) for x, y in ((box.left, box.top), (box.right, box.bottom))
    ]
    cv2.rectangle(tile, corners[0], (corners[1][0] - 1, corners[1][1] - 1), colour, 1)


def _pages(tiles: Iterable[Picture]) -> Iterator[Picture]:
    rest = iter(tiles)
    across, down = TILE[0] + GAP, TILE[1] + CAPTION + GAP
    while batch := list(islice(rest, COLUMNS * ROWS)):
        rows = -(-len(batch) // COLUMNS)
        page = np.full((rows * down + GAP + 24, COLUMNS * across + GAP, 3), 12, np.uint8)
        for number, tile in enumerate(batch):
            top, left = number // COLUMNS * down + GAP, number % COLUMNS * across + GAP
            page[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        for number, (source, meaning) in enumerate(LEGEND.items()):
            _write(page, f"{source}: {meaning}", (GAP + 300 * number, page.shape[0] - 8), COLOURS[source])
        yield page


def _write(picture: Picture, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
