import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from usvs.data.patients import scan_groups
from usvs.errors import ConfigError, DataError
from usvs.evaluation.folds import Fold, check_disjoint, make_folds, rare_classes, split_groups
from usvs.tasks.trained_patients import trained_patients

TESTED_WITH_SEED_0 = [
    ("000000000006", "00000000000d"),
    ("000000000004", "000000000000"),
    ("000000000003", "000000000005"),
]
PATIENTS = [f"{number:012x}" for number in range(20)]


class FakeStore:
    """As much of a store as a split by patient looks at."""

    def __init__(self, patients):
        self.scans = tuple(f"scan{number}" for number in range(len(patients)))
        self._patients = patients

    def scan(self, number):
        return SimpleNamespace(scan_key=self.scans[number], patient_key=self._patients[number])


@pytest.mark.parametrize("folds", [2, 3, 7, 20])
def test_every_patient_is_tested_once_and_never_trained_on_in_that_fold(folds):
    made = make_folds(PATIENTS, folds, seed=1)
    tested = [patient for fold in made for patient in fold.test]
    assert sorted(tested) == PATIENTS
    for fold in made:
        assert set(fold.train) | set(fold.test) == set(PATIENTS)
        assert not set(fold.train) & set(fold.test)
    sizes = [len(fold.test) for fold in made]
    assert max(sizes) - min(sizes) <= 1


def test_folds_depend_on_the_seed_and_not_on_the_order_or_the_number_of_scans():
    assert make_folds(PATIENTS, 3, seed=1) == make_folds([*reversed(PATIENTS), *PATIENTS[:5]], 3, seed=1)
    assert make_folds(PATIENTS, 3, seed=1) != make_folds(PATIENTS, 3, seed=2)


def test_fewer_labels_are_a_subset_of_more():
    fold = make_folds(PATIENTS, 3, seed=5)[1]
    labels = [set(fold.labelled(count).train) for count in (1, 2, 4, 8)]
    assert [len(patients) for patients in labels] == [1, 2, 4, 8]
    assert labels[0] < labels[1] < labels[2] < labels[3]
    assert fold.labelled(2).test == fold.test
    assert fold.labelled(None) == fold


def test_more_labels_than_patients_is_refused():
    with pytest.raises(ConfigError, match="labelled_patients: expected 1 to 13"):
        make_folds(PATIENTS, 3, seed=5)[0].labelled(14)


def test_a_fold_that_shares_a_patient_cannot_be_made():
    with pytest.raises(DataError, match=r"fold 0: training and test share 1 patients: b"):
        Fold(0, train=("a", "b"), test=("b", "c"))
    with pytest.raises(DataError, match="share 2"):
        check_disjoint({"a", "b"}, {"b", "a"}, "one and other")


def test_too_few_patients_for_the_folds_is_refused():
    with pytest.raises(DataError, match="3 folds: expected at least 3 labelled patients, got 2"):
        make_folds(["a", "b", "a"], 3, seed=0)


def test_a_split_keeps_both_sides_and_is_stable():
    first, second = split_groups(PATIENTS, 0.6, seed=0)
    assert (len(first), len(second)) == (12, 8)
    assert set(first) | set(second) == set(PATIENTS)
    assert split_groups(["a", "b"], 0.99, seed=0)[1]
    assert split_groups(reversed(PATIENTS), 0.6, seed=0) == (first, second)


def test_a_missing_patient_id_is_refused_unless_scans_are_asked_for():
    store = FakeStore(["p", None, "p", ""])
    with pytest.raises(DataError, match=r"2 of 4 labelled scans have no patient id \(scan scan1, scan3\)"):
        scan_groups(store, range(4))
    assert scan_groups(store, [0, 2]) == ("p", "p")
    assert scan_groups(store, range(4), "scan") == store.scans


def run_with(folder: Path, trained) -> Path:
    checkpoint = folder / "checkpoints" / "step_00000010"
    checkpoint.mkdir(parents=True)
    (folder / "patients.json").write_text(json.dumps({"trained": trained, "validation": []}))
    return checkpoint


def test_a_broken_list_is_an_error_and_not_an_empty_one(tmp_path):
    run_with(tmp_path / "run", ["a"])
    (tmp_path / "run" / "patients.json").write_text("{}")
    with pytest.raises(DataError, match="expected a list of patient keys"):
        trained_patients(tmp_path / "run")


def test_stratified_folds_test_every_class_where_dealing_by_size_does_not():
    patients = [f"{number:012x}" for number in range(12)]
    labels = [2 if number < 3 else number % 2 for number in range(12)]  # three patients of the rare class
    groups, classes = np.repeat(patients, 5), np.repeat(labels, 5)

    def counts(folds):
        return [[len({g for g in fold.test if labels[patients.index(g)] == one}) for one in range(3)] for fold in folds]

    plain = [counts(make_folds(groups, 3, seed)) for seed in range(5)]
    assert any(0 in [fold[2] for fold in folds] for folds in plain)
    for seed in range(5):
        folds = make_folds(groups, 3, seed, classes)
        assert [fold[2] for fold in counts(folds)] == [1, 1, 1]
        assert sorted(g for fold in folds for g in fold.test) == patients
    order = np.random.default_rng(0).permutation(len(groups))
    assert make_folds(groups[order], 3, 1, classes[order]) == make_folds(groups, 3, 1, classes)
    assert all(fold.test for fold in make_folds(patients[:3], 3, 0, [0, 0, 0]))
    with pytest.raises(DataError, match="stratify: expected one class number per entry, 60"):
        make_folds(groups, 3, 0, labels)


def test_classes_of_too_few_patients_are_named():
    groups, labels = ["a", "a", "b", "c", "d"], [0, 1, 0, 0, -1]
    assert rare_classes(groups, labels, 3) == {1: 1}
    assert rare_classes(groups, labels, 4) == {0: 3, 1: 1}


def test_folds_of_todays_seeds_are_unchanged():
    """Results of earlier versions stay comparable: the dealing is part of the format."""
    assert [fold.test[:2] for fold in make_folds(PATIENTS, 3, seed=0)] == TESTED_WITH_SEED_0
