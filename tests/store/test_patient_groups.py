"""Patients as `usvs index` finds, prints and keeps them."""

import multiprocessing
from pathlib import Path

import pytest

from tests.support.dicom_files import write_dicom
from tests.support.media_files import write_video
from usvs.errors import DataError
from usvs.store.audit import audit_store
from usvs.store.catalogue import Catalogue
from usvs.store.folder import _check_content
from usvs.store.indexing import index_archive


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """One person by DICOM and mp4, one in two visit folders, two in one export folder, one without a folder."""
    archive = tmp_path / "archive"
    ids = {"a/1.dcm": "PID-4711", "visit1/1.dcm": "Anonymized 7", "visit2/1.dcm": "Anonymized 7"}
    for path, name in {**ids, "export/1.dcm": "Anonym-001", "export/2.dcm": "Anonym-002"}.items():
        write_dicom(archive / path, PatientID=name)
    for path in ("a/v.mp4", "pat_A/visit_1/c.mp4", "pat_C/visit_1/c.mp4", "pat_C/visit_2/c.mp4", "top.mp4"):
        (archive / path).parent.mkdir(parents=True, exist_ok=True)
        write_video(archive / path)
    write_dicom(archive / "pat_A/d.dcm", PatientID="UNKNOWN")
    return archive


def patients(archive: Path, store: Path) -> dict[str, str | None]:
    index_archive(archive, store, workers=1)
    return {row["path"]: row["patient_key"] for row in Catalogue.load(store).scans.to_pylist()}


def test_one_person_has_one_key_and_the_reasons_are_printed(archive: Path, tmp_path: Path):
    store = tmp_path / "store"
    text = str(index_archive(archive, store, workers=1))
    found = patients(archive, store)
    assert found["a/1.dcm"] == found["a/v.mp4"] is not None
    assert found["visit1/1.dcm"] == found["visit2/1.dcm"] is not None
    assert found["export/1.dcm"] == found["export/2.dcm"] is not None
    assert found["pat_A/visit_1/c.mp4"] == found["pat_A/d.dcm"] != found["pat_C/visit_1/c.mp4"]
    assert found["pat_C/visit_1/c.mp4"] == found["pat_C/visit_2/c.mp4"] is not None
    assert found["top.mp4"] is None
    assert "patients: 5: 0 by manifest.csv or labels.csv, 3 by the DICOM PatientID, 2 by the top-level folder" in text
    assert "one patient (2 scans): folders 'visit1', 'visit2': they share a PatientID" in text
    assert "one patient (2 scans): folder 'export', 2 PatientIDs: they share the top-level folder" in text
    assert "one patient (2 scans): folder 'a': 1 scan without a PatientID" in text
    assert "unknown patient (1 scan, 'top.mp4'): in no folder" in text
    assert "PatientID is a placeholder (1 scan, 'pat_A/d.dcm'): it is not used" in text
    written = b"".join(file.read_bytes() for file in store.rglob("*") if file.is_file())
    assert b"PID-4711" not in written and b"Anonym" not in written


def test_an_index_step_by_step_finds_the_same_groups(archive: Path, tmp_path: Path):
    """Scans that are added later join, and link, scans whose rows are kept."""
    late = [archive / "a/1.dcm", archive / "visit2/1.dcm", archive / "pat_A/d.dcm"]
    for file in late:
        file.rename(tmp_path / f"{file.parent.name}_{file.name}")
    store = tmp_path / "store"
    before = patients(archive, store)
    for file in late:
        (tmp_path / f"{file.parent.name}_{file.name}").rename(file)
        stepwise = patients(archive, store)
    (store / "catalogue" / "scans.parquet").unlink()
    assert patients(archive, store) == stepwise
    assert stepwise["a/v.mp4"] == stepwise["a/1.dcm"] != before["a/v.mp4"]  # named by its PatientID now
    assert stepwise["visit1/1.dcm"] == stepwise["visit2/1.dcm"] == before["visit1/1.dcm"]
    late[0].unlink()
    assert patients(archive, store)["a/v.mp4"] == before["a/v.mp4"]


def test_an_archive_in_one_folder_is_one_patient_and_says_so(archive: Path, tmp_path: Path):
    (tmp_path / "above").mkdir()
    (archive / "top.mp4").unlink()
    archive.rename(tmp_path / "above" / "data")
    summary = index_archive(tmp_path / "above", tmp_path / "store", workers=1)
    assert summary.patients == 1
    assert "all are in the top-level folder 'data': if its 6 subfolders are patients, index that folder" in str(summary)


@pytest.mark.parametrize("bit", [0, 100, 255])
def test_a_flipped_bit_of_the_key_is_an_error_and_no_second_patient(archive: Path, tmp_path: Path, bit: int):
    store = tmp_path / "store"
    before = patients(archive, store)
    key = store / "private.key"
    content = bytearray(key.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    key.write_bytes(content)
    write_video(archive / "a/w.mp4")
    with pytest.raises(DataError, match=r"private\.key is not the key that the store was made with"):
        index_archive(archive, store, workers=1)
    assert any("private.key" in str(finding) for finding in audit_store(store, workers=1).findings)
    content[bit // 8] ^= 1 << bit % 8
    key.write_bytes(content)
    after = patients(archive, store)
    assert after.items() > before.items() and after["a/w.mp4"] == before["a/v.mp4"]


@pytest.mark.parametrize("name", ["private.key", "archive.json"])
def test_a_store_that_lost_its_key_or_its_id_gets_no_new_one(archive: Path, tmp_path: Path, name: str):
    store = tmp_path / "store"
    index_archive(archive, store, workers=1)
    (store / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing: restore it from a copy"):
        index_archive(archive, store, workers=1)
    assert not (store / name).exists()


def test_the_id_of_a_store_is_made_once_and_is_its_own(archive: Path, tmp_path: Path):
    from usvs.store.identity import read_store_id

    index_archive(archive, tmp_path / "one", workers=1)
    first = read_store_id(tmp_path / "one")
    write_video(archive / "a/w.mp4")
    index_archive(archive, tmp_path / "one", workers=1)
    index_archive(archive, tmp_path / "other", workers=1)
    assert read_store_id(tmp_path / "one") == first != read_store_id(tmp_path / "other")
    record = tmp_path / "one" / "archive.json"
    record.write_text(record.read_text().replace(first, first[::-1]))
    with pytest.raises(DataError, match=r"archive\.json is damaged"):
        index_archive(archive, tmp_path / "one", workers=1)


def _index(archive: Path, store: Path, barrier, outcomes) -> None:
    barrier.wait()
    try:
        index_archive(archive, store, workers=1)
        outcomes.put("indexed")
    except DataError as error:
        outcomes.put(str(error))


@pytest.mark.slow
def test_of_two_first_index_runs_at_once_one_makes_the_key(tmp_path: Path):
    archive = tmp_path / "archive"
    write_dicom(archive / "a/1.dcm", PatientID="1")
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        store = tmp_path / f"store{attempt}"
        barrier, outcomes = context.Barrier(3), context.Queue()
        processes = [context.Process(target=_index, args=(archive, store, barrier, outcomes)) for _ in range(3)]
        for process in processes:
            process.start()
        found = [outcomes.get(timeout=60) for _ in processes]
        for process in processes:
            process.join()
        assert "indexed" in found
        assert not [text for text in found if text != "indexed" and "in use by another usvs process" not in text]
        assert patients(archive, store)["a/1.dcm"] is not None  # the key fits the catalogue
        assert any((store / "catalogue").iterdir())


def test_a_store_that_is_created_during_the_check_has_no_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Another process makes the key and more between the two looks at the folder."""
    store = tmp_path / "store"
    store.mkdir()
    exists, listed = Path.exists, Path.iterdir

    def create() -> None:
        for name in ("private.key", "archive.json"):
            (store / name).write_bytes(b"")

    def exists_before(path: Path, **options: bool) -> bool:
        found = exists(path, **options)
        if path.name == "private.key":
            create()
        return found

    def listed_after(path: Path):
        create()
        return listed(path)

    monkeypatch.setattr(Path, "exists", exists_before)
    monkeypatch.setattr(Path, "iterdir", listed_after)
    _check_content(store)
