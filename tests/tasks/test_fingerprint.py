from usvs.store.prepared import PreparedStore
from usvs.tasks.fingerprint import package_sha256, store_sha256


def test_a_store_has_another_fingerprint_with_other_labels_pictures_patients_or_scans(store_writer, tmp_path):
    patients = ["9a7000000000", "9a7000000001"]
    made = {
        "first": store_writer(tmp_path / "first", patients),
        "other labels": store_writer(tmp_path / "labels", patients, informative=False),
        "other pictures": store_writer(tmp_path / "gaze", patients, gaze=True),
        "other patients": store_writer(tmp_path / "patients", ["9a7000000000", "9a7000000002"]),
        "fewer scans": store_writer(tmp_path / "fewer", patients[:1]),
    }
    prints = {name: store_sha256(PreparedStore(store)) for name, store in made.items()}
    assert len(set(prints.values())) == len(prints)
    again = store_writer(tmp_path / "again", patients)
    assert store_sha256(PreparedStore(again)) == prints["first"]


def test_one_changed_label_changes_the_fingerprint(store_writer, tmp_path):
    stores = [store_writer(tmp_path / str(plane), ["9a7000000000"], relabel={3: plane}) for plane in (1, 9)]
    assert len({store_sha256(PreparedStore(store)) for store in stores}) == 2


def test_code_that_measures_counts_and_code_that_shows_does_not(tmp_path):
    for name in ("tasks", "report", "cli"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text("one")
    before = package_sha256(tmp_path)
    (tmp_path / "report" / "a.py").write_text("two")
    (tmp_path / "cli" / "b.py").write_text("two")
    (tmp_path / "tasks" / "notes.txt").write_text("two")
    assert package_sha256(tmp_path) == before
    (tmp_path / "_C.so").write_bytes(b"two")
    compiled = package_sha256(tmp_path)
    (tmp_path / "tasks" / "a.py").write_text("two")
    assert len({before, compiled, package_sha256(tmp_path)}) == 3
