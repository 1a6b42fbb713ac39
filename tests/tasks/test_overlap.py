"""Overlap of pretraining and test patients, within one store and across stores."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.media_files import write_video
from usvs.errors import DataError
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.prepared import PreparedStore
from usvs.store.settings import PrepareSettings
from usvs.tasks.overlap import check_pretraining_overlap
from usvs.tasks.trained_patients import describe_patients, join_scans, trained_patients

FOLDERS = ("anna", "ben", "cleo")


def make_store(archive: Path, store: Path) -> PreparedStore:
    index_archive(archive, store, workers=1)
    prepare_store(store, profile=PrepareSettings(frame_pixels=32), workers=1)
    return PreparedStore(store)


def keys_of(store: PreparedStore) -> list[str]:
    return [str(store.scan(number).patient_key) for number in range(len(store.scans))]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = tmp_path_factory.mktemp("owner") / "archive"
    for folder in FOLDERS:
        (archive / folder).mkdir(parents=True)
        write_video(archive / folder / "v.mp4")
    return archive


@pytest.fixture(scope="module")
def stores(archive: Path) -> tuple[PreparedStore, PreparedStore]:
    return make_store(archive, archive.parent / "one"), make_store(archive, archive.parent / "other")


def run_of(store_id: str, trained: list[str], folder: Path, *, store: Path | None = None, **before: list[str]) -> Path:
    """A run folder with a list of patients, and of their scans in `store`; returns a file in its checkpoint."""
    checkpoint = folder / "checkpoints" / "step_00000010"
    checkpoint.mkdir(parents=True)
    scans = {} if store is None else join_scans(store, store_id, trained, {})
    record = describe_patients(store_id, trained, [], before, scans)
    (folder / "patients.json").write_text(json.dumps(record))
    return checkpoint / "model.safetensors"


def test_testing_on_pretraining_patients_is_refused_from_the_run_or_its_checkpoint(stores, tmp_path: Path):
    store, keys = stores[0], keys_of(stores[0])
    file = run_of(store.store_id, keys[:2], tmp_path / "run")
    for init in (tmp_path / "run", file.parent, file):
        with pytest.raises(DataError, match=rf"1 of 2 test patients were pretrained on \({keys[1]}\).*--allow-overlap"):
            check_pretraining_overlap(init, store, keys[1:])
        assert check_pretraining_overlap(init, store, keys[1:], allow_overlap=True) == "overlap"
        assert check_pretraining_overlap(init, store, keys[2:]) == "disjoint"


def test_weights_without_a_list_are_logged_as_unknown(stores, tmp_path: Path, caplog):
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    assert trained_patients(tmp_path / "a" / "b" / "c" / "d") is None
    assert check_pretraining_overlap(tmp_path / "a" / "b" / "c" / "d", stores[0], ["x"]) == "unknown"
    assert "is not ruled out" in caplog.text


def test_keys_of_two_stores_of_one_archive_are_compared_through_names_or_not_at_all(stores, tmp_path: Path):
    one, other = stores
    run = run_of(one.store_id, keys_of(one)[:2], tmp_path / "run").parents[2]
    assert not set(keys_of(one)) & set(keys_of(other))  # which is why comparing them says nothing
    for tested in (keys_of(other), keys_of(other)[2:]):
        with pytest.raises(
            DataError, match=rf"of store {one.store_id}, not of store {other.store_id}.*--init-store STORE"
        ):
            check_pretraining_overlap(run, other, tested)
    assert check_pretraining_overlap(run, other, keys_of(other), allow_overlap=True) == "not comparable"
    with pytest.raises(DataError, match="2 of 3 test patients were pretrained on"):
        check_pretraining_overlap(run, other, keys_of(other), init_stores=[one.store])
    assert check_pretraining_overlap(run, other, keys_of(other)[2:], init_stores=[one.store]) == "disjoint"
    with pytest.raises(DataError, match="--init-store STORE"):  # not the store of the run
        check_pretraining_overlap(run, other, keys_of(other), init_stores=[other.store])


def test_a_moved_file_of_the_same_folder_is_still_the_same_patient(archive: Path, stores, tmp_path: Path):
    one = stores[0]
    run = run_of(one.store_id, keys_of(one)[:1], tmp_path / "run").parents[2]
    again = tmp_path / "archive"
    shutil.copytree(archive, again)
    (again / "anna" / "visit_2").mkdir()
    (again / "anna" / "v.mp4").rename(again / "anna" / "visit_2" / "w.mp4")
    other = make_store(again, tmp_path / "store")
    with pytest.raises(DataError, match="1 of 3 test patients were pretrained on"):
        check_pretraining_overlap(run, other, keys_of(other), init_stores=[one.store])


@pytest.mark.parametrize("by", ["manifest.csv", "folder"])
def test_a_patient_of_another_archive_in_another_folder_is_known_by_name(archive: Path, tmp_path: Path, by: str):
    """Two archives have one person in folders of different names: manifest.csv, a PatientID or a folder says so."""
    first, second = tmp_path / "first", tmp_path / "second"
    for copy, prefix in ((first, "one_"), (second, "two_")):
        for folder in FOLDERS:
            shutil.copytree(archive / folder, copy / f"{prefix}{folder}")
        rows = "".join(f"{prefix}{folder}/v.mp4,{folder.upper()}\n" for folder in FOLDERS)
        (copy / "manifest.csv").write_text(f"scan,patient\n{rows}")
    if by == "folder":
        (second / "manifest.csv").unlink()
        for folder in FOLDERS:
            (second / f"two_{folder}").rename(second / folder)
    one, other = make_store(first, tmp_path / "one"), make_store(second, tmp_path / "other")
    run = run_of(one.store_id, keys_of(one)[:1], tmp_path / "run").parents[2]
    with pytest.raises(DataError, match="1 of 3 test patients were pretrained on"):
        check_pretraining_overlap(run, other, keys_of(other), init_stores=[one.store])
    assert check_pretraining_overlap(run, other, keys_of(other)[1:], init_stores=[one.store]) == "disjoint"
    (first / "manifest.csv").write_text(f"scan,patient\none_{FOLDERS[0]}/v.mp4,someone else\n")
    with pytest.raises(DataError, match="expected the files and patients that its catalogue has, got others"):
        check_pretraining_overlap(run, other, keys_of(other), init_stores=[one.store])
    shutil.rmtree(first)
    with pytest.raises(DataError, match="does not exist"):
        check_pretraining_overlap(run, other, keys_of(other), init_stores=[one.store])


def test_a_run_of_an_earlier_version_without_a_store_id_is_not_disjoint(stores, tmp_path: Path):
    store = stores[0]
    run = tmp_path / "run"
    run.mkdir()
    (run / "patients.json").write_text(json.dumps({"trained": keys_of(store)[:1], "validation": []}))
    with pytest.raises(DataError, match=r"a store without an id .*: type --allow-overlap"):
        check_pretraining_overlap(run, store, keys_of(store)[2:])
    assert check_pretraining_overlap(run, store, keys_of(store)[2:], allow_overlap=True) == "not comparable"


def test_patients_of_initial_weights_from_another_store_are_kept_apart(stores, tmp_path: Path):
    one, other = stores
    run = run_of(other.store_id, keys_of(other)[:1], tmp_path / "run", **{one.store_id: keys_of(one)[1:2]}).parents[2]
    assert trained_patients(run) == {
        other.store_id: frozenset(keys_of(other)[:1]),
        one.store_id: frozenset(keys_of(one)[1:2]),
    }
    with pytest.raises(DataError, match="--init-store STORE"):
        check_pretraining_overlap(run, other, keys_of(other)[2:])
    with pytest.raises(DataError, match="1 of 2 test patients were pretrained on"):
        check_pretraining_overlap(run, other, keys_of(other)[1:], init_stores=[one.store])
    assert check_pretraining_overlap(run, other, keys_of(other)[2:], init_stores=[one.store]) == "disjoint"


def test_patients_that_have_other_keys_by_now_are_not_disjoint(archive: Path, tmp_path: Path):
    """A manifest that names the patients gives all of them new keys."""
    again = tmp_path / "archive"
    shutil.copytree(archive, again)
    store = make_store(again, tmp_path / "store")
    run = run_of(store.store_id, keys_of(store)[:1], tmp_path / "run").parents[2]
    rows = "".join(f"{folder}/v.mp4,{folder.upper()} SMITH\n" for folder in FOLDERS)
    (again / "manifest.csv").write_text("scan,patient\n" + rows)
    renamed = make_store(again, tmp_path / "store")
    with pytest.raises(DataError, match=r"1 of 1 pretraining patients are not in the store any more .*not ruled out"):
        check_pretraining_overlap(run, renamed, keys_of(renamed))


def test_scans_that_are_of_another_patient_by_now_are_not_disjoint(archive: Path, tmp_path: Path):
    """Names in the manifest change places, a patient is divided, a file is moved: the keys of patients stay known."""
    again = tmp_path / "archive"
    shutil.copytree(archive, again)
    shutil.copy(archive / "anna" / "v.mp4", again / "anna" / "w.mp4")
    (again / "manifest.csv").write_text("scan,patient\nben/v.mp4,P2\ncleo/v.mp4,P3\n")
    store = make_store(again, tmp_path / "store")
    anna, ben = keys_of(store)[0], keys_of(store)[2]
    run = run_of(store.store_id, [anna, ben], tmp_path / "run", store=store.store).parents[2]
    assert check_pretraining_overlap(run, store, keys_of(store)[3:]) == "disjoint"

    (again / "manifest.csv").write_text("scan,patient\nben/v.mp4,P3\ncleo/v.mp4,P2\n")  # they were exchanged
    store = make_store(again, tmp_path / "store")
    with pytest.raises(DataError, match="1 of 1 test patients were pretrained on"):
        check_pretraining_overlap(run, store, keys_of(store)[2:3])

    (again / "manifest.csv").write_text("scan,patient\nben/v.mp4,P2\ncleo/v.mp4,P3\nanna/w.mp4,P4\n")  # divided
    store = make_store(again, tmp_path / "store")
    with pytest.raises(DataError, match="1 of 1 test patients were pretrained on"):
        check_pretraining_overlap(run, store, keys_of(store)[1:2])

    (again / "manifest.csv").write_text("scan,patient\nben/v.mp4,P2\ncleo/v.mp4,P3\n")
    (again / "dora").mkdir()
    (again / "anna" / "w.mp4").rename(again / "dora" / "x.mp4")
    store = make_store(again, tmp_path / "store")
    dora = keys_of(store)[-1]
    with pytest.raises(DataError, match="1 of 3 scans that were pretrained on are not in the store any more, and 1"):
        check_pretraining_overlap(run, store, [dora])
    assert check_pretraining_overlap(run, store, [keys_of(store)[2]]) == "disjoint"


def test_a_scan_of_an_unknown_patient_may_be_of_a_test_patient(archive: Path, tmp_path: Path):
    again = tmp_path / "archive"
    shutil.copytree(archive, again)
    shutil.copy(archive / "anna" / "v.mp4", again / "top.mp4")
    store = make_store(again, tmp_path / "store")
    top = next(key for key, patient in zip(store.scans, keys_of(store), strict=True) if patient == "None")
    known = [key for key in keys_of(store) if key != "None"]
    run = run_of(store.store_id, [known[0], top], tmp_path / "run").parents[2]
    with pytest.raises(DataError, match="1 scans of unknown patients were pretrained on"):
        check_pretraining_overlap(run, store, known[1:])
    assert check_pretraining_overlap(run, store, known[1:], allow_overlap=True) == "not comparable"


def test_a_damaged_key_of_the_other_store_is_named(stores, tmp_path: Path):
    one, other = stores
    run = run_of(one.store_id, keys_of(one)[:1], tmp_path / "run").parents[2]
    copy = tmp_path / "copy"
    shutil.copytree(one.store, copy)
    (copy / "private.key").write_bytes(bytes(32))
    with pytest.raises(DataError, match=r"private\.key is not the key"):
        check_pretraining_overlap(run, other, keys_of(other), init_stores=[copy])
