"""Score of sector detection against sectors drawn by eye and against synthetic screens.

    python -m tests.media.sector_score --out docs/results/sector_geometry.json
    python -m tests.media.sector_score --out /tmp/score.json --sheet /tmp/sheets --seeds 200

An item passes if the detected bounds and the bounding box of the drawn sector have an IoU of at least 0.9, at most 2 %
of the crop is outside of the drawn sector, the crop is at least 0.7 times the largest rectangle inside the drawn sector
that holds no text, and the crop itself holds no text. A video is scored on the frames that `usvs index` takes, a still
on the video's middle frame. Without ../shared/data only the synthetic screens are scored.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.support.sector_screens import KINDS, make_screen
from tests.support.sector_variants import VARIANTS, make_variant
from usvs.media.box import Box
from usvs.media.sector import Sector, detect_sector, find_inscribed_box
from usvs.media.video import iter_gray_frames, read_video_info
from usvs.store.inspect_scan import sector_frames
from usvs.training.environment import git_revision
from usvs.utils.atomic_files import write_durably

MIN_IOU, MAX_OUTSIDE, MIN_AREA = 0.9, 0.02, 0.7
HELD_BACK_SEED = 4000  # of synthetic screens whose failures are counted and never drawn; 1000 on have been looked at
TILE_PX, COLUMNS, ROWS = 400, 5, 4
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@dataclass(frozen=True)
class Item:
    """Frames [n, H, W] with the true sector.

    Attributes:
        name: of the file or seed.
        group: ``video`` or ``still``, and its source.
        frames: as given to `detect_sector`.
        area: pixels of the sector, bool [H, W].
        text: pixels of text, rulers and menus, bool [H, W].
    """

    name: str
    group: str
    frames: np.ndarray
    area: np.ndarray
    text: np.ndarray


def score(found: Sector, area: np.ndarray, text: np.ndarray) -> dict[str, Any]:
    """Return the four figures of an item and whether it passes."""
    height, width = area.shape
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    true = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    largest, crop = find_inscribed_box(area & ~text), found.crop_box
    bounds = found.bounds or Box(0, 0, width, height)
    figures = {
        "iou": max(intersection_over_union(bounds, one) for one in (true, *_single_sectors(area))),
        "outside": 1 - float(crop.crop(area).mean()),
        "area": crop.width * crop.height / (largest.width * largest.height),
        "text": bool(crop.crop(text).any()),
    }
    passed = (
        figures["iou"] >= MIN_IOU
        and figures["outside"] <= MAX_OUTSIDE
        and figures["area"] >= MIN_AREA
        and not figures["text"]
    )
    rounded = {name: value if name == "text" else round(value, 4) for name, value in figures.items()}
    return {"passed": bool(passed), **rounded}


def _single_sectors(area: np.ndarray) -> list[Box]:
    """Return the bounds of each sector of a screen with two that are equal; none of any other screen."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(area.astype(np.uint8))
    boxes = [Box(left, top, left + wide, top + tall) for left, top, wide, tall, _ in stats[1:].tolist()]
    sizes = {(box.width, box.height) for box in boxes}
    return boxes if len(boxes) == 2 and len(sizes) == 1 else []


def intersection_over_union(one: Box, other: Box) -> float:
    """Return the area that two boxes share over the area that they cover."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    both = max(width, 0) * max(height, 0)
    return both / (one.width * one.height + other.width * other.height - both)


def drawn_items(shared: Path) -> Iterator[Item]:
    """Yield what is drawn by eye: every clip as a video and as a still, every plane as a still."""
    for name, drawn in json.loads((shared / "fans.json").read_text("utf-8")).items():
        path = shared / name
        if name.startswith("lung_videos/"):
            info = read_video_info(path)
            frames = [gray for _, gray in iter_gray_frames(path, info)]
            area, text = draw_masks(drawn)
            yield Item(name, f"video {drawn['kind']}", np.stack(list(sector_frames(path, info))), area, text)
            yield Item(name, f"still {drawn['kind']}", frames[len(frames) // 2][None], area, text)
        else:
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            yield Item(name, "still screen", image[None], *draw_masks(drawn))


def draw_masks(drawn: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels whose centres are inside the polygon, and those of the rectangles of text."""
    width, height = drawn["size"]
    area, text = np.zeros((height, width), np.uint8), np.zeros((height, width), bool)
    corners = np.round((np.array(drawn["polygon"]) - 0.5) * 256).astype(np.int32)
    cv2.fillPoly(area, [corners], 1, shift=8)
    for left, top, right, bottom in drawn["overlays"]:
        text[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
    return area > 0, text


def synthetic_items(seeds: range, kinds: Sequence[str] = KINDS, group: str = "synthetic") -> Iterator[Item]:
    """Yield a screen of every kind and seed, as a video and as a still."""
    for kind in kinds:
        for seed in seeds:
            screen = make_screen(kind, seed) if kind in KINDS else make_variant(kind, seed)
            yield Item(f"{kind} {seed}", f"{group} video {kind}", screen.frames, screen.area, screen.text)
            still = screen.frames[len(screen.frames) // 2][None]
            yield Item(f"{kind} {seed}", f"{group} still {kind}", still, screen.area, screen.text)


def all_synthetic_items(count: int) -> Iterator[Item]:
    """Yield `count` screens of every kind: those that the detection was developed with, and as many held back."""
    for first, group in ((0, "synthetic"), (HELD_BACK_SEED, "synthetic held-back")):
        yield from synthetic_items(range(first, first + count), (*KINDS, *VARIANTS), group)


def draw_tile(item: Item, found: Sector, figures: dict[str, Any]) -> np.ndarray:
    """Draw the temporal maximum with the true outline (yellow), bounds (blue), crop (green) and geometry (magenta)."""
    height, width = item.area.shape
    scale = TILE_PX / max(height, width)
    brightest = (255 * np.sqrt(item.frames.max(axis=0) / 255.0)).astype(np.uint8)
    picture = cv2.cvtColor(cv2.resize(brightest, None, fx=scale, fy=scale), cv2.COLOR_GRAY2BGR)
    outlines = [(item.area, (0, 255, 255))]
    if found.geometry is not None:
        outlines.append((found.geometry.draw_mask(height, width), (255, 0, 255)))
    for mask, colour in outlines:
        large = cv2.resize(mask.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, colour, 1)
    for box, colour in ((found.bounds, (255, 140, 0)), (found.crop_box, (0, 255, 0))):
        if box is not None:
            corners = [int(side * scale) for side in (box.left, box.top, box.right, box.bottom)]
            cv2.rectangle(picture, corners[:2], (corners[2] - 1, corners[3] - 1), colour, 1)
    tile = np.full((TILE_PX + 36, TILE_PX + 8, 3), 40, np.uint8)
    tile[: picture.shape[0], : picture.shape[1]] = picture
    texts = [
        f"{item.group}: {item.name.split('/')[-1]}"[:56],
        f"{'' if figures['passed'] else 'FAIL '}iou {figures['iou']:.2f} outside {figures['outside']:.3f} "
        f"area {figures['area']:.2f}{' TEXT' if figures['text'] else ''} conf {found.confidence:.2f}",
    ]
    for line, text in enumerate(texts):
        colour = (255, 255, 255) if figures["passed"] else (80, 80, 255)
        cv2.putText(tile, text, (2, TILE_PX + 14 + 16 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
    return tile


def save_sheets(tiles: list[np.ndarray], folder: Path, stem: str) -> None:
    """Write tiles as pages of 5 x 4."""
    folder.mkdir(parents=True, exist_ok=True)
    for page in range(0, len(tiles), COLUMNS * ROWS):
        batch = tiles[page : page + COLUMNS * ROWS]
        batch += [np.zeros_like(batch[0])] * (-len(batch) % COLUMNS)
        rows = [np.hstack(batch[start : start + COLUMNS]) for start in range(0, len(batch), COLUMNS)]
        cv2.imwrite(str(folder / f"{stem}_{page // (COLUMNS * ROWS) + 1:02d}.png"), np.vstack(rows))


def _confidence(row: dict[str, Any]) -> float:
    return float(row["confidence"])


def main() -> None:
    """Score and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--sheet", type=Path, help="folder for sheets of all drawn items and of failed synthetic ones")
    parser.add_argument("--seeds", type=int, default=40, help="synthetic screens of every kind")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    drawn_tiles, failed_tiles = [], []
    drawn = drawn_items(SHARED) if SHARED.is_dir() else iter(())
    for item in (one for source in (drawn, all_synthetic_items(options.seeds)) for one in source):
        started = time.process_time()
        found = detect_sector(item.frames)
        seconds = time.process_time() - started
        figures = score(found, item.area, item.text)
        figures |= {"confidence": round(found.confidence, 2), "milliseconds": round(1000 * seconds, 1)}
        results.append({"name": item.name, "group": item.group, **figures})
        is_synthetic, is_held_back = (item.group.startswith(name) for name in ("synthetic", "synthetic held-back"))
        if options.sheet and not is_held_back and not (is_synthetic and figures["passed"]):
            (failed_tiles if is_synthetic else drawn_tiles).append(draw_tile(item, found, figures))
    groups: dict[str, dict[str, Any]] = {}
    for row in results:
        group = groups.setdefault(row["group"], {"items": 0, "passed": 0, "text": 0, "milliseconds": []})
        group["items"] += 1
        group["passed"] += row["passed"]
        group["text"] += row["text"]
        group["milliseconds"].append(row["milliseconds"])
    for name, group in groups.items():
        group["milliseconds"] = float(np.median(group["milliseconds"]))
        print(
            f"{name}: {group['passed']} of {group['items']}, text in {group['text']}, {group['milliseconds']:.1f} ms",
            flush=True,
        )
    drawn_rows = sorted((row for row in results if not row["group"].startswith("synthetic")), key=_confidence)
    ranks = [rank for rank, row in enumerate(drawn_rows, 1) if not row["passed"]]
    print(f"drawn items that fail, in the order of `usvs audit`, the least certain first: {ranks} of {len(drawn_rows)}")
    report = {
        "revision": git_revision(Path(__file__).parents[2]),
        "device": platform.processor() or platform.machine(),
        "definition": {"min_iou": MIN_IOU, "max_outside": MAX_OUTSIDE, "min_area": MIN_AREA},
        "groups": groups,
        "ranks_of_failed": ranks,
        "drawn": [row for row in results if not row["group"].startswith("synthetic")],
        "failed_synthetic": [
            row["name"] + ", " + row["group"]
            for row in results
            if row["group"].startswith("synthetic") and not row["passed"]
        ],
    }
    write_durably(options.out, (json.dumps(report, indent=1) + "\n").encode())
    if options.sheet:
        save_sheets(drawn_tiles, options.sheet, "drawn")
        save_sheets(failed_tiles, options.sheet, "failed_synthetic")


if __name__ == "__main__":
    main()
