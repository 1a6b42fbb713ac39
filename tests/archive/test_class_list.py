from pathlib import Path

import pytest

from usvs.archive.class_list import PALETTE, ClassList, ClassRules, read_class_rules
from usvs.errors import DataError


def rules(tmp_path: Path, text: str) -> ClassRules:
    (tmp_path / "classes.csv").write_text(text, encoding="utf-8")
    return read_class_rules(tmp_path / "classes.csv")


def test_without_a_file_every_label_is_a_class_and_numbers_are_sorted_by_value():
    found = ClassRules().class_list("point", ["10", "2", "b", "A", "1", "é"])
    assert found.names == ("1", "2", "10", "A", "b", "é")
    assert found.colours == PALETTE[:6] and found.column == "point"
    assert [found.find(name) for name in ("1", "10", "a")] == [0, 2, None]


def test_the_file_gives_order_colours_merged_labels_and_labels_left_out(tmp_path: Path):
    text = (
        "column,label,class,colour\nview,PLAX,PLAX,#00FF00\nview,4-chamber,4CH,\nview,4CH,4CH,#ff0000\n"
        "view,poor,,\nother,x,y,\n"
    )
    found = rules(tmp_path, text).class_list("view", ["4CH", "4-chamber", "A4C", "poor"])
    assert found.names == ("PLAX", "4CH", "A4C")  # the listed ones first, also one that nobody has labelled yet
    assert found.colours == ("#00ff00", "#ff0000", PALETTE[2])
    assert [found.find(label) for label in ("4CH", "4-chamber", "poor", "A4C", "4 chamber")] == [1, 1, -1, 2, None]
    assert ClassList.from_json(found.to_json()) == found


def test_a_rule_without_a_column_is_of_the_columns_that_have_its_label(tmp_path: Path):
    made = rules(tmp_path, "label,class\n4-chamber,4CH\n")
    assert made.class_list("view", ["4-chamber", "PLAX"]).names == ("4CH", "PLAX")
    assert made.class_list("side", ["L", "R"]).names == ("L", "R")


def test_spellings_are_not_merged_without_the_file():
    assert len(ClassRules().class_list("view", ["4CH", "4ch", "4-chamber", " 4CH"])) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label\nx\n", "column 'class' is missing"),
        ("label,class\na,b\na,c\n", "line 3: label 'a' has two classes: 'b' and 'c'"),
        ("label,class\na,b\nb,c\n", "line 3: 'b' is a class and also a label of class 'c'"),
        ("label,class\nb,c\na,b\n", "line 3: 'b' is a class and also a label of class 'c'"),
        ("label,class,colour\na,a,red\n", "line 2: expected a colour such as #1f77b4, got 'red'"),
        ("label,class,colour\na,a,#000000\nb,a,#111111\n", "line 3: class 'a' has two colours"),
        ("label,class,color\na,a,#000000\n", "unknown column 'color': did you mean 'colour'"),
        ("label,class\n,\nx,\n", None),
        ("column,label,class\nv,,\n", "line 2: expected a label, got none"),
    ],
)
def test_an_invalid_list_is_an_error_with_its_line(tmp_path: Path, text: str, words: str | None):
    if words is None:
        assert rules(tmp_path, text).class_list("", ["x", "y"]).names == ("y",)
        return
    with pytest.raises(DataError, match=words):
        rules(tmp_path, text)


def test_rules_survive_the_catalogue(tmp_path: Path):
    made = rules(tmp_path, 'column,label,class\n"a, b","c;d|e","f ""g"""\n')
    assert ClassRules.load(made.dump()) == made
    assert made.class_list("a, b", ["c;d|e"]).names == ('f "g"',)


def test_a_list_for_naming_is_read_from_lines_or_from_the_same_file(tmp_path: Path):
    (tmp_path / "classes.txt").write_text("four chamber view\n\n  femur \n", encoding="utf-8")
    assert ClassList.read(tmp_path / "classes.txt").names == ("four chamber view", "femur")
    rules(tmp_path, "label,class\n4-chamber,4CH\nx,femur\n")
    assert ClassList.read(tmp_path / "classes.csv").names == ("4CH", "femur")
    for text, words in (("a\na\n", "expected different names"), ("\n", "expected at least one class")):
        (tmp_path / "classes.txt").write_text(text)
        with pytest.raises(DataError, match=words):
            ClassList.read(tmp_path / "classes.txt")
    with pytest.raises(DataError, match="expected a text file"):
        ClassList.read(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"names": ("a", "a")}, "different names"),
        ({"names": ("a",), "aliases": {"b": "c"}}, "names of classes, got 'c'"),
        ({"names": ("a",), "colours": ("red",)}, "#rrggbb"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(values, words: str):
    with pytest.raises(ValueError, match=words):
        ClassList(**values)
