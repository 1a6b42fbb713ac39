import pytest

from usvs.archive.labels import STANDARD_PLANES
from usvs.archive.similar_labels import similar_groups


@pytest.mark.parametrize(
    "labels",
    [
        ("4CH", "4-chamber", "4 chamber"), ("4CH", "four chamber"), ("4CH", "4ch"), ("covid", "Covid"),
        ("covid", "COVID-19"), ("kidney", "kidneys"), ("pneumonia", "pneumonea"), ("pneumonia", "penumonia"),
        ("LVOT", "left ventricular outflow tract"), ("1", "01", "1.0"), ("Müller", "Muller"),
        ("spine cor", "spine coronal"),
        ("chamber 4", "4 chamber"), ("3VV", "3VT"), ("long axis", "long_axis"), ("B-lines", "b lines", "Blines"),
    ],
)  # fmt: skip
def test_two_spellings_are_found(labels: tuple[str, ...]):
    assert similar_groups(["something else", *labels]) == [list(labels)]


@pytest.mark.parametrize(
    "labels",
    [
        STANDARD_PLANES, ("covid", "pneumonia", "regular", "viral"), ("1", "2", "3", "10"), ("L", "R"), ("yes", "no"),
        ("regular", "irregular"), ("normal", "abnormal"), ("L1", "L2", "R1", "R2"), ("LV", "LVOT", "RV"),
        ("3CH", "4CH", "2CH"), ("hypoechoic", "hyperechoic"), ("systole", "diastole"), ("A-lines", "B-lines"),
        ("CC BY 2.0", "CC BY 4.0", "CC BY-NC 4.0", "CC BY-NC-SA 4.0"), ("?", "-", "!"), (),
    ],
)  # fmt: skip
def test_different_classes_are_not_asked_about(labels: tuple[str, ...]):
    assert similar_groups(labels) == []


def test_groups_join_and_keep_the_order():
    labels = ["PLAX", "four chamber", "plax", "4-CH", "4 chamber"]
    assert similar_groups(labels) == [["PLAX", "plax"], ["four chamber", "4-CH", "4 chamber"]]
