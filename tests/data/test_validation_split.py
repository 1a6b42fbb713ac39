import pytest

from usvs.data.validation_split import split_store
from usvs.errors import DataError
from usvs.store.prepared import PreparedStore


@pytest.fixture(scope="module")
def many(tmp_path_factory, store_writer):
    return PreparedStore(store_writer(tmp_path_factory.mktemp("many") / "store", scans=9))


def test_patients_are_held_out_whole_and_always_the_same_ones(many):
    split = split_store(many, 0.3)
    assert len(split.held_out) == 3 and len(split.trained) == 6
    assert not set(split.held_out) & set(split.trained)
    assert set(split.held_out) | set(split.trained) == {f"{n + 100:012x}" for n in range(9)}
    assert split == split_store(many, 0.3)
    assert set(split_store(many, 0.1).held_out) < set(split.held_out)  # ranked, so a larger share only adds
    clips = many.clips
    held, trained = (split.clips_of(side, clips.scan) for side in (split.held_out, split.trained))
    assert held.sum() == 3 * 6 and (held ^ trained).all()


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.01, 1), (0.99, 8)])
def test_both_sides_have_somebody(many, share, expected):
    assert len(split_store(many, share).held_out) == expected


def test_only_the_patients_asked_for(many):
    asked = [f"{n + 100:012x}" for n in (1, 4, 7)]
    split = split_store(many, 0.3, asked)
    assert sorted(split.trained + split.held_out) == asked and len(split.held_out) == 1
    with pytest.raises(DataError, match="1 of the patients asked for have no prepared scan, the first is nobody"):
        split_store(many, 0.3, [*asked, "nobody"])


def test_a_scan_without_patient_stands_for_itself_and_it_is_said(tmp_path, store_writer, capsys):
    store = PreparedStore(store_writer(tmp_path / "store", scans=3, patients=False))
    split = split_store(store, 0.3)
    assert sorted(split.trained + split.held_out) == list(store.scans)
    assert "3 of 3 scans have no patient" in capsys.readouterr().err


def test_one_patient_is_learnt_from_and_it_is_said(tmp_path, store_writer, capsys):
    split = split_store(PreparedStore(store_writer(tmp_path / "store", scans=1)), 0.5)
    assert split.held_out == () and len(split.trained) == 1
    assert "none is held out" in capsys.readouterr().err
