"""Pages of elements: everything is escaped, tables and charts are accessible, and their numbers can be read back."""

import math
import re

import numpy as np
import pytest

from tests.support.report_reader import drawn_values, read_report, table_values
from usvs.errors import DataError
from usvs.report.charts import Line, line_chart, map_chart, score_chart
from usvs.report.elements import MAX_TABLE_ROWS, element, number_cell, short, table, write_html
from usvs.report.page import MAX_BYTES, Page, first_sentences, stylesheet
from usvs.report.pictures import overlay, picture, spectrogram_pixels


def page_of(*contents):
    return read_report(write_html(element("html", {}, *contents)))


def test_text_and_attributes_are_escaped_and_lose_control_characters():
    hostile = '<script>alert("x")</script>&\x1b[31m'
    page = page_of(element("p", {"title": hostile}, hostile))
    assert not page.all("script")
    assert page.all("p")[0].text == '<script>alert("x")</script>&\\x1b[31m'
    assert page.all("p")[0].attributes["title"] == page.all("p")[0].text


def test_a_table_has_headings_with_scope_and_exact_values():
    values = [0.1234567890123, 1e-9, float("nan")]
    rows = [["one", *map(number_cell, values)], ["two", number_cell(None), "text", number_cell(3)]]
    page = page_of(table("caption", ["name", "a", "b", "c"], rows))
    columns, read = table_values(page.all("table")[0])
    assert columns == ["name", "a", "b", "c"]
    assert read["one"][:2] == values[:2] and math.isnan(read["one"][2])
    assert read["two"] == [None, None, 3.0]
    assert {cell.attributes["scope"] for cell in page.all("th")} == {"col", "row"}
    assert page.all("caption")[0].text == "caption"
    assert [cell.text for cell in page.all("tbody")[0].all("tr")[0].all("td")] == ["0.123", "1e-09", "not a number"]


def test_a_long_table_says_how_many_rows_follow():
    page = page_of(table("caption", ["name", "value"], [[str(n), "x"] for n in range(MAX_TABLE_ROWS + 7)]))
    rows = page.all("tbody")[0].all("tr")
    assert len(rows) == MAX_TABLE_ROWS + 1 and rows[-1].text == "and 7 more"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.500"), (12, "12"), (186.396, "186"), (3.14159, "3.14"), (1234567.0, "1.23e+06"), (0.0001, "0.0001")],
)
def test_numbers_for_reading(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    "values", [[4.7, 3.2, 3.9], [0.0, 0.0], [1e-8, 3e-3, 1e-5], [-2.0, 5.0], [1e6, 2e6], [0.691, 0.6931]]
)
def test_a_line_is_drawn_at_its_values(values):
    steps = [10 * n + 10 for n in range(len(values))]
    chart = line_chart([Line("a", "unseen", steps, values, True)], "label")
    x, y = drawn_values(page_of(chart).all("svg")[0], "a")
    span = max(values) - min(values) or 1.0
    assert x == pytest.approx(steps, abs=0.02 * steps[-1])
    assert y == pytest.approx(values, abs=0.002 * max(span, abs(max(values))))


def test_a_line_is_interrupted_where_a_value_is_not_finite():
    values = [1.0, math.nan, 2.0, math.inf, 3.0, 4.0]
    page = page_of(line_chart([Line("a", "unseen", range(6), values)], "label"))
    assert [len(line.attributes["points"].split()) for line in page.all("polyline")] == [1, 1, 2]
    assert "nan" not in str([node.attributes for node in page.all("polyline")])


def test_the_dots_of_two_lines_at_one_level_fall_on_each_other():
    """Two dotted lines that begin elsewhere would fill each other's gaps and look like a line."""
    lines = [Line("a", "chance", [10, 500], [1.0, 1.0]), Line("b", "chance", [200, 500], [1.0, 1.0])]
    drawn = list(line_chart(lines, "two").iter("polyline"))
    starts = [line.get("points").split(",")[0] for line in drawn]
    assert starts[0] != starts[1] and [float(line.get("stroke-dashoffset")) for line in drawn] == [*map(float, starts)]


def test_charts_have_a_role_and_a_name():
    charts = [
        line_chart([Line("a", "unseen", [1], [1.0])], "losses"),
        score_chart([("init", [0.5, 0.7])], 0.1, "scores"),
        map_chart(np.zeros((2, 2)), np.array([False, True]), ["#000000"] * 2, ["x", "y"], "map"),
    ]
    for chart, label in zip(charts, ("losses", "scores", "map"), strict=True):
        svg = page_of(chart).all("svg")[0]
        assert (svg.attributes["role"], svg.attributes["aria-label"]) == ("img", label)
    values = [node.attributes["data-value"] for node in page_of(charts[1]).all("circle")]
    assert list(map(float, values)) == [0.5, 0.7]


def test_pictures_have_a_text_and_a_size_and_are_inside_the_page():
    frame = np.random.default_rng(0).integers(0, 256, (300, 400), dtype=np.uint8)
    image = page_of(picture(frame, "a frame", 100)).all("img")[0].attributes
    assert image["alt"] == "a frame" and (image["width"], image["height"]) == ("100", "75")
    assert image["src"].startswith("data:image/jpeg;base64,")
    assert overlay(frame, np.ones((8, 8))).shape == (300, 400, 3)


def test_the_lowest_band_of_a_spectrogram_is_at_the_bottom():
    power = np.repeat(np.arange(4.0)[:, None], 5, axis=1)
    assert (np.diff(spectrogram_pixels(power)[:, 0].astype(int)) < 0).all()


def test_a_section_that_fails_does_not_take_the_others_with_it(caplog):
    page = Page("kind", "title")

    def fail():
        yield "begun"
        raise DataError("'/archive/Smith Jane/scan.mp4': damaged")

    page.add("bad", "Bad", fail)
    page.add("good", "Good", lambda: ["text"])
    text = page.to_html()
    assert "Smith" not in text and "Smith" in caplog.text  # for the owner's terminal only
    sections = read_report(text).all("section")
    assert [node.attributes["id"] for node in sections] == ["bad", "good"]
    assert "Not shown" in sections[0].text and sections[1].text.endswith("text")


def test_a_page_that_is_too_large_is_refused(tmp_path, monkeypatch):
    assert MAX_BYTES == 8_000_000
    monkeypatch.setattr("usvs.report.page.MAX_BYTES", 20_000)
    page = Page("kind", "title")
    page.add("long", "Long", lambda: ["x" * 20_001])
    with pytest.raises(DataError, match="expected at most 20,000 bytes"):
        page.save(tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_page_asks_for_nothing_and_only_its_owner_may_read_it(tmp_path):
    page = Page("kind", "title", verdict=["It learns."], facts=[("steps", "12")])
    page.add("one", "One", lambda: ["text"])
    file = page.save(tmp_path / "report.html")
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    assert not re.findall(r"(?:https?:)?//", text)
    assert "default-src 'none'" in text and "<script" not in text
    assert not re.findall(r"@import|url\(", stylesheet())


def test_the_first_sentence_of_a_verdict_is_a_paragraph_of_its_own():
    assert first_sentences("it learns: 0.5 below chance. More. And more.") == [
        "It learns: 0.5 below chance.",
        "More. And more.",
    ]
    assert first_sentences("nothing was measured.") == ["Nothing was measured."]


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa_in_both_schemes(scheme):
    block = stylesheet().split(":root {")[1 + scheme].split("}")[0]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
    page = luminance(colours["page"])
    for name, least in {
        "text": 7,
        "muted": 4.5,
        "accent": 4.5,
        "good": 4.5,
        "warn": 4.5,
        "bad": 4.5,
        "chance": 3,
    }.items():
        light, dark = sorted((luminance(colours[name]), page), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= least, name
