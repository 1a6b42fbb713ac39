"""Text and rulers outside of the sector never reach a network, whether they are still or move."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.media.test_sector import SIZE, convex_area, intersection_over_union
from tests.support.media_files import write_video
from usvs.media.box import Box
from usvs.media.sector import detect_sector
from usvs.store.catalogue import Catalogue
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.prepared_scan import PreparedScan
from usvs.store.settings import PrepareSettings

COUNT = 16
SECTOR_AND_MARGIN = cv2.dilate(convex_area().astype(np.uint8), np.ones((9, 9))) > 0


def speckle() -> np.ndarray:
    rng = np.random.default_rng(11)
    frames = [cv2.GaussianBlur(rng.rayleigh(60, SIZE), (0, 0), 2.0) for _ in range(COUNT)]
    return np.where(convex_area(), np.clip(frames, 0, 255), 0).astype(np.uint8)


def overlay(seed: int) -> np.ndarray:
    """Return names, a changing clock, a ruler, a moving curve and a moving cursor outside of the sector [n, H, W]."""
    rng = np.random.default_rng(seed)
    height, width = SIZE
    drawn = np.zeros((COUNT, *SIZE), np.uint8)
    ticks = range(0, height, int(rng.integers(12, 30)))
    positions = [(int(rng.integers(0, width - 90)), int(rng.integers(14, height))) for _ in range(14)]
    for number, picture in enumerate(drawn):
        for index, (left, bottom) in enumerate(positions):
            text = (
                f"{rng.integers(0, 10**7)}" if index % 3 == 0 else ["DOE JANE", "12.3cm", "GA 20w", "MI 0.9"][index % 4]
            )
            cv2.putText(
                picture, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.3 + 0.3 * (index % 3), 255, 1 + index % 2
            )
        for row in ticks:
            picture[row : row + 2, 2:9] = 220
        curve = height - 12 + (6 * np.sin(np.arange(width) * 0.15 + number)).astype(int)
        picture[np.clip(curve, 0, height - 1), np.arange(width)] = 240
        cv2.circle(picture, (560, 20 + 20 * number), 6, 255, -1)
    return np.where(SECTOR_AND_MARGIN, 0, drawn).astype(np.uint8)


@pytest.mark.parametrize("seed", range(8))
def test_no_text_is_inside_the_crop(seed: int):
    drawn = overlay(seed)
    found = detect_sector(np.maximum(speckle(), drawn))
    assert found.note is None
    assert not found.crop_box.crop(drawn.max(axis=0)).any()
    assert found.crop_box.crop(convex_area()).mean() > 0.98


def test_prepared_frames_hold_no_text(tmp_path: Path):
    """Prepared frames equal those of the same scan without text, cut out at the crop that was detected with text."""
    archive, store, clean = tmp_path / "archive", tmp_path / "store", speckle()
    archive.mkdir()
    for seed in range(2):
        pictures = list(np.maximum(clean, overlay(seed)))
        write_video(archive / f"{seed}.mkv", pictures=pictures, codec="ffv1", form="gray", full_range=True)
    index_archive(archive, store, workers=1)
    prepare_store(store, profile=PrepareSettings(frame_pixels=96, codec="raw"), workers=1)
    crop_of_clean = detect_sector(clean).crop_box
    for row in Catalogue.load(store).scans.to_pylist():
        box = Box(*(row[f"sector_{side}"] for side in ("left", "top", "right", "bottom")))
        assert intersection_over_union(box, crop_of_clean) > 0.9
        prepared = PreparedScan(store / "prepared" / row["scan_key"]).frames(np.arange(COUNT))
        expected = [cv2.resize(box.crop(frame), (96, 96), interpolation=cv2.INTER_AREA) for frame in clean]
        np.testing.assert_array_equal(prepared, np.stack(expected))
        assert prepared.std() > 3
