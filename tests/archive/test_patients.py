"""Which scans are of one patient: the rule of usvs.archive.patients, without files."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usvs.archive.patients import PatientEvidence, fold_patient_id, group_patients


def keys(*scans: tuple[str, str | None, str | None]) -> list[int | None]:
    """The number of the group of each (path, name in manifest.csv, PatientID); None for an unknown patient."""
    found = group_patients([PatientEvidence.of(*scan) for scan in scans])
    numbers = {n: number for number, group in enumerate(found.groups) for n in group.scans}
    assert set(numbers) | set(found.ambiguous) | set(found.unknown) == set(range(len(scans)))
    return [numbers.get(n) for n in range(len(scans))]


@pytest.mark.parametrize(
    ("scans", "expected"),
    [
        ([("a/x.dcm", None, "4711"), ("a/y.mp4", None, None)], [0, 0]),
        ([("v1/a.dcm", None, "Anonymized 7"), ("v2/a.dcm", None, "Anonymized 7")], [0, 0]),
        ([("export/a.dcm", None, "Anonym-001"), ("export/b.dcm", None, "Anonym-002")], [0, 0]),
        ([("e1/a.dcm", None, "Anonym-001"), ("e2/b.dcm", None, "Anonym-002")], [0, 1]),
        (
            [("A/visit_1/c.mp4", None, None), ("C/visit_1/c.mp4", None, None), ("A/visit_2/c.mp4", None, None)],
            [0, 1, 0],
        ),
        # placeholders say nothing, the folder decides
        ([("a/1.dcm", None, "ANONYMOUS"), ("b/1.dcm", None, "ANONYMOUS")], [0, 1]),
        # a chain: ID 1 in two folders, one of which has ID 2, which is in a third folder
        (
            [("a/1", None, "1"), ("b/1", None, "1"), ("b/2", None, "2"), ("c/2", None, "2"), ("d/1", None, "3")],
            [0, 0, 0, 0, 1],
        ),
        # a PatientID and a folder of the same name; capitals, spaces and the encoding of accents
        ([("4711/a.mp4", None, None), ("x/a.dcm", None, "4711")], [0, 0]),
        ([("x/1", None, "Mrn 7"), ("y/1", None, " MRN  7\0")], [0, 0]),
        ([("M\u00fcller/1.mp4", None, None), ("Mu\u0308ller/2.mp4", None, None)], [0, 0]),
        # characters that are not shown, dashes, digits; what spreadsheets make of numbers
        ([("Pat\u200b01/1", None, None), ("Pat01/2", None, None), ("x/3", "\ufeffpat01", None)], [0, 0, 0]),
        ([("P-1/1", None, None), ("P\u20131/2", None, None), ("x/3", None, "P\u20111")], [0, 0, 0]),
        ([("P\u0661/1", None, None), ("P1/2", None, None)], [0, 0]),
        ([("\u0130nan/1", None, None), ("inan/2", None, None)], [0, 0]),
        ([("x/1", "7", None), ("y/1", None, "007"), ("z/1", "'007", None), ("7.0/1", None, None)], [0, 0, 0, 0]),
        ([("x/1", None, "DOE^JOHN"), ("y/1", None, "Doe^John^"), ("Doe John/1", None, None)], [0, 0, 0]),
        ([("7.5/1", None, None), ("75/1", None, None), ("7-0/1", None, None), ("70/1", None, None)], [0, 1, 2, 3]),
        # two names in manifest.csv are two patients, in one folder and with one PatientID
        ([("x/a", "Anna", "1"), ("x/b", "Ben", "1")], [0, 1]),
        ([("x/a", "Anna", None), ("y/b", "anna ", None)], [0, 0]),
        # a scan that the manifest does not name: the one name of its folder or PatientID, or unknown
        ([("x/a", "Anna", None), ("x/b", None, None)], [0, 0]),
        ([("x/a", "Anna", "1"), ("y/b", None, "1"), ("y/c", None, "2"), ("z/d", None, "2")], [0, 0, 0, 0]),
        ([("x/a", "Anna", None), ("x/b", "Ben", None), ("x/c", None, None)], [0, 1, None]),
        ([("x/a", "Anna", "1"), ("y/b", "Ben", "2"), ("z/c", None, "1"), ("z/d", None, "2")], [0, 1, None, None]),
        ([("Anna/a", None, None), ("x/b", "Anna", None)], [0, 0]),
        ([("x/a", "unknown", None), ("x/b", "N/A", None), ("y/c", "-", None)], [0, 0, 1]),
        # no folder: a PatientID, or unknown
        ([("a.mp4", None, None), ("b.dcm", None, "7"), ("x/c.dcm", None, "7")], [None, 0, 0]),
    ],
)
def test_groups(scans: list[tuple[str, str | None, str | None]], expected: list[int | None]):
    assert keys(*scans) == expected
    order = list(range(len(scans)))[::-1]
    backwards = keys(*(scans[n] for n in order))
    for one, other in combinations(range(len(scans)), 2):  # the order of the scans does not matter
        same = expected[one] == expected[other]
        assert (backwards[order.index(one)] == backwards[order.index(other)]) == same


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\0",
        "ANONYMOUS",
        "anonymized",
        "Anonymisé",
        "N/A",
        "n.a.",
        "None",
        "null",
        "UNKNOWN",
        "Unknown Patient",
        "0000",
        "00-00",
        "xxx",
        "XXXX",
        "-",
        "???",
        "***",
        "De-Identified",
        "DEID",
        "NoName",
        "No ID",
        "removed",
        "REDACTED",
        "Patient Name",
    ],
)
def test_placeholders_are_not_used(text: str):
    assert fold_patient_id(text) is None


@pytest.mark.parametrize(
    "text",
    ["0", "1", "Anonym-001", "anon7", "ANON B", "Patient 3", "A", "N", "X", "000123", "9999", "PAT", "Nan Li", "李"],
)
def test_what_may_distinguish_two_patients_is_used(text: str):
    assert fold_patient_id(text) is not None


names = st.sampled_from([None, "p", "q", "r", "UNKNOWN", "f1"])
paths = st.builds(
    lambda folder, n: f"{folder}{n}.mp4", st.sampled_from(["f1/", "f2/v/", "F2/", "f3/", ""]), st.integers(0, 99)
)


@given(st.lists(st.tuples(paths, names, names), max_size=14))
def test_scans_that_share_anything_are_never_in_two_groups(scans: list[tuple[str, str | None, str | None]]):
    found, evidence = keys(*scans), [PatientEvidence.of(*scan) for scan in scans]
    for (one, first), (other, second) in combinations(zip(found, evidence, strict=True), 2):
        if first.manifest is not None and second.manifest is not None:
            assert (one == other) == (first.manifest == second.manifest)
        elif first.manifest is None and second.manifest is None:
            shared = {first.patient_id, first.folder} & {second.patient_id, second.folder} - {None}
            assert not shared or one == other
        else:
            shared = set(first) & set(second) - {None}
            unnamed = one if first.manifest is None else other
            assert not shared or one == other or unnamed is None  # or it may be one of several of manifest.csv


@given(st.lists(st.tuples(paths, names, names), max_size=8), st.tuples(paths, names, names))
def test_one_more_scan_never_divides_a_group_that_manifest_csv_does_not_name(scans, more):
    before, after = keys(*scans), keys(*scans, more)
    evidence = [PatientEvidence.of(*scan) for scan in scans]
    for one, other in combinations(range(len(scans)), 2):
        if before[one] == before[other] and evidence[one].manifest is evidence[other].manifest is None:
            # a patient that has become unknown is refused by folds: it is never on the other side of a split
            assert after[one] == after[other] or None in (after[one], after[other])
