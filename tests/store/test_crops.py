"""`crop`: prepared frames show the inscribed crop, the complete sector, or the sector unfolded along its beams."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.media.test_sector import convex_area, make_screens
from tests.support.media_files import write_video
from usvs.errors import DataError
from usvs.media.sector import bounding_box
from usvs.media.sector_geometry import SectorGeometry
from usvs.store.audit import audit_store
from usvs.store.catalogue import Catalogue
from usvs.store.contact_sheet import save_contact_sheets
from usvs.store.crops import check_gaze
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore, warn_of_other_crop
from usvs.store.prepared_scan import PreparedScan
from usvs.store.settings import PrepareSettings
from usvs.store.staleness import stale_reason

COUNT, SIDE = 6, 96


@pytest.fixture(scope="module")
def screens() -> np.ndarray:
    return make_screens(COUNT)[0]


@pytest.fixture
def store(tmp_path: Path, screens) -> Path:
    archive = tmp_path / "archive"
    archive.mkdir()
    write_video(archive / "a.mkv", pictures=list(screens), codec="ffv1", form="gray", full_range=True)
    index_archive(archive, tmp_path / "store", workers=1)
    return tmp_path / "store"


def prepare(store: Path, crop: str) -> tuple[np.ndarray, PreparedScan, dict]:
    prepare_store(store, profile=PrepareSettings(frame_pixels=SIDE, codec="raw", crop=crop), workers=1)
    (row,) = Catalogue.load(store).scans.to_pylist()
    scan = PreparedScan(store / "prepared" / row["scan_key"])
    return scan.frames(np.arange(COUNT)), scan, row


def test_the_complete_sector_is_shown_and_black_outside(store: Path, screens):
    frames, _, row = prepare(store, "sector")
    geometry = SectorGeometry.from_json(row["sector_geometry"])
    mask = geometry.draw_mask(*screens.shape[1:])
    assert (mask == convex_area()).mean() > 0.97
    box = bounding_box(mask)
    expected = [
        cv2.resize(box.crop(np.where(mask, one, 0)), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for one in screens
    ]
    np.testing.assert_array_equal(frames, np.stack(expected).astype(np.uint8))
    assert (frames[:, :3, :3] == 0).all() and (frames[:, -3:, :3] == 0).all() and frames.mean() > 20


def test_the_unfolded_sector_fills_the_frame(store: Path):
    frames, scan, _ = prepare(store, "unfolded")
    assert (frames.max(axis=0) > 10).mean() > 0.97
    assert json.loads(scan.manifest.geometry)["slope"] == pytest.approx(np.tan(0.6), abs=0.05)
    assert not audit_store(store, workers=1).findings


def test_manifests_of_the_inscribed_crop_are_as_before(store: Path):
    """Their checksum is over the text: a new key would make every older scan a damaged one."""
    _, scan, row = prepare(store, "inscribed")
    text = (store / "prepared" / row["scan_key"] / "manifest.json").read_text("utf-8")
    assert "crop" not in json.loads(text)["settings"] and "geometry" not in json.loads(text)
    assert scan.manifest.settings.crop == "inscribed"


def test_another_crop_or_geometry_is_not_up_to_date(store: Path):
    prepare(store, "inscribed")
    frames, scan, row = prepare(store, "unfolded")
    assert stale_reason(scan.manifest, row) is None and frames.std() > 3
    other = SectorGeometry.from_json(row["sector_geometry"]).moved(9, 0).to_json()
    assert "geometry of its sector" in str(stale_reason(scan.manifest, row | {"sector_geometry": other}))


def test_gaze_is_refused_with_unfolded_frames():
    with pytest.raises(DataError, match="crop=unfolded: expected a scan without gaze, got one with gaze"):
        check_gaze(PrepareSettings(crop="unfolded"), has_gaze=True)
    check_gaze(PrepareSettings(crop="sector"), has_gaze=True)


def test_contact_sheets_list_the_least_certain_sectors_first(tmp_path: Path, screens):
    archive = tmp_path / "archive"
    archive.mkdir()
    rng = np.random.default_rng(2)
    blob = cv2.GaussianBlur(rng.normal(0, 1, screens.shape[1:]), (0, 0), 40) > 0.005
    write_video(archive / "a_clear.mkv", pictures=list(screens), codec="ffv1", form="gray", full_range=True)
    unclear = list(np.where(blob, screens, 0))
    write_video(archive / "b_unclear.mkv", pictures=unclear, codec="ffv1", form="gray", full_range=True)
    index_archive(archive, tmp_path / "store", workers=1)
    save_contact_sheets(tmp_path / "store", tmp_path / "out", workers=1)
    with (tmp_path / "out" / "sectors.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["b_unclear.mkv", "a_clear.mkv"]
    assert float(rows[0]["confidence"]) < float(rows[1]["confidence"]) <= 1
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0  # names of files are for the owner alone


def test_a_listed_crop_is_corrected_by_copying_it_into_the_manifest(tmp_path: Path, screens):
    archive = tmp_path / "archive"
    archive.mkdir()
    write_video(archive / "scan.mkv", pictures=list(screens), codec="ffv1", form="gray", full_range=True)
    index_archive(archive, tmp_path / "store", workers=1)
    save_contact_sheets(tmp_path / "store", tmp_path / "out", workers=1)
    with (tmp_path / "out" / "sectors.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    (left, top, *corner) = map(int, row["sector"].split(","))
    corrected = ",".join(map(str, (left + 3, top + 2, *corner)))
    (archive / "manifest.csv").write_text(f'scan,sector\n{row["file"]},"{corrected}"\n')
    index_archive(archive, tmp_path / "store", workers=1)
    (found,) = Catalogue.load(tmp_path / "store").scans.to_pylist()
    assert found["sector_source"] == "manifest"
    assert [found[f"sector_{side}"] for side in ("left", "top", "right", "bottom")] == [left + 3, top + 2, *corner]


@pytest.mark.parametrize(("crop", "warnings"), [("inscribed", 0), ("sector", 1)])
def test_training_on_another_crop_than_pictures_get_is_said(store: Path, caplog, crop, warnings):
    prepare(store, crop)
    warn_of_other_crop(PreparedStore(store))
    assert caplog.text.count(f"crop={crop}: predict with this model from stores prepared alike") == warnings
