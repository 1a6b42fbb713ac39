"""Text and rulers outside of the fan never reach a network, whether they stand still, tick or run."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.media.test_sector import SIZE, fan_area
from tests.support.media_files import write_video
from usvs.media.sector import detect_sector
from usvs.store.catalogue import Catalogue
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedScan
from usvs.store.settings import PrepareSettings

COUNT = 16
SPACE = cv2.dilate(fan_area().astype(np.uint8), np.ones((9, 9))) > 0


def speckle() -> np.ndarray:
    rng = np.random.default_rng(11)
    frames = [cv2.GaussianBlur(rng.rayleigh(60, SIZE), (0, 0), 2.0) for _ in range(COUNT)]
    return np.where(fan_area(), np.clip(frames, 0, 255), 0).astype(np.uint8)


def overlay(seed: int) -> np.ndarray:
    """Names, a clock that ticks, a ruler, a curve that runs and a cursor that moves: outside of the fan [n, H, W]."""
    rng = np.random.default_rng(seed)
    height, width = SIZE
    drawn = np.zeros((COUNT, *SIZE), np.uint8)
    ticks = range(0, height, int(rng.integers(12, 30)))
    places = [(int(rng.integers(0, width - 90)), int(rng.integers(14, height))) for _ in range(14)]
    for number, picture in enumerate(drawn):
        for place, (left, bottom) in enumerate(places):
            text = (
                f"{rng.integers(0, 10**7)}" if place % 3 == 0 else ["DOE JANE", "12.3cm", "GA 20w", "MI 0.9"][place % 4]
            )
            cv2.putText(
                picture, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.3 + 0.3 * (place % 3), 255, 1 + place % 2
            )
        for row in ticks:
            picture[row : row + 2, 2:9] = 220
        curve = height - 12 + (6 * np.sin(np.arange(width) * 0.15 + number)).astype(int)
        picture[np.clip(curve, 0, height - 1), np.arange(width)] = 240
        cv2.circle(picture, (560, 20 + 20 * number), 6, 255, -1)
    return np.where(SPACE, 0, drawn).astype(np.uint8)


@pytest.mark.parametrize("seed", range(8))
def test_no_stroke_of_it_lies_in_the_box(seed: int):
    drawn = overlay(seed)
    found = detect_sector(np.maximum(speckle(), drawn))
    assert found.note is None
    assert not found.box.crop(drawn.max(axis=0)).any()
    assert found.box.crop(fan_area()).mean() > 0.98


def test_what_is_prepared_does_not_depend_on_it(tmp_path: Path):
    """One scan under two names on the screen: the frames a network sees are the same to the bit."""
    archive, store = tmp_path / "archive", tmp_path / "store"
    archive.mkdir()
    for number in range(2):
        pictures = list(np.maximum(speckle(), overlay(number)))
        write_video(archive / f"{number}.mkv", pictures=pictures, codec="ffv1", form="gray", full_range=True)
    index_archive(archive, store, workers=1)
    rows = Catalogue.load(store).scans.to_pylist()
    box = [rows[0][f"sector_{side}"] for side in ("left", "top", "right", "bottom")]
    (archive / "manifest.csv").write_text(
        f'scan,sector\n1.mkv,"{",".join(map(str, box))}"\n'
    )  # what was found in the other
    index_archive(archive, store, workers=1)
    prepare_store(store, profile=PrepareSettings(frame_pixels=96, codec="raw"), workers=1)
    one, other = (PreparedScan(store / "prepared" / row["scan_key"]).frames(np.arange(COUNT)) for row in rows)
    np.testing.assert_array_equal(one, other)
    assert one.std() > 3
