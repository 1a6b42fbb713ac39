import pytest

from usvs.data.validation_split import split_store
from usvs.errors import DataError
from usvs.store.prepared import PreparedStore


@pytest.fixture(scope="module")
def many(tmp_path_factory, store_writer):
    return PreparedStore(store_writer(tmp_path_factory.mktemp("many") / "store", scans=9))


def test_the_same_patients_are_chosen_every_time(many):
    split = split_store(many, 0.3)
    assert len(split.validation) == 3 and len(split.train) == 6
    assert not set(split.validation) & set(split.train)
    assert set(split.validation) | set(split.train) == {f"{n + 100:012x}" for n in range(9)}
    assert split == split_store(many, 0.3)
    assert set(split_store(many, 0.1).validation) < set(
        split.validation
    )  # ranked, so a larger fraction only adds patients
    clips = many.clips
    validation, train = (split.clips_of(side, clips.scan) for side in (split.validation, split.train))
    assert validation.sum() == 3 * 6 and (validation ^ train).all()


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 0), (0.01, 1), (0.99, 8)])
def test_neither_side_is_empty(many, fraction, expected):
    assert len(split_store(many, fraction).validation) == expected


def test_only_the_patients_asked_for(many):
    asked = [f"{n + 100:012x}" for n in (1, 4, 7)]
    split = split_store(many, 0.3, asked)
    assert sorted(split.train + split.validation) == asked and len(split.validation) == 1
    with pytest.raises(DataError, match="1 of the 4 requested patients have no prepared scan, the first is nobody"):
        split_store(many, 0.3, [*asked, "nobody"])


def test_a_scan_without_patient_is_its_own_patient_and_it_is_logged(tmp_path, store_writer, caplog):
    store = PreparedStore(store_writer(tmp_path / "store", scans=3, patients=False))
    split = split_store(store, 0.3)
    assert sorted(split.train + split.validation) == list(store.scans)
    assert "3 of 3 scans have no patient" in caplog.text


def test_one_patient_is_trained_on_and_it_is_logged(tmp_path, store_writer, caplog):
    split = split_store(PreparedStore(store_writer(tmp_path / "store", scans=1)), 0.5)
    assert split.validation == () and len(split.train) == 1
    assert "only one patient to train on" in caplog.text
