"""Reports in headless Chromium: nothing is asked for, no error, keyboard, telephone and desktop, light and dark."""

import json

import pytest

from tests.report.test_finetuned_report import complete, planned
from tests.support.browser import browser
from tests.support.pretraining_stores import noise_store, tiny_settings
from usvs.report.html import save_report
from usvs.tasks.pretraining.pretrain import pretrain

__all__ = ["browser", "complete", "noise_store", "planned"]

pytestmark = pytest.mark.slow

WIDTHS = (360, 1200)
TAB, ENTER = ("Tab", 9), ("Enter", 13)


@pytest.fixture(scope="module")
def pages(noise_store, tmp_path_factory):
    """A report of a run and of a store."""
    folder = tmp_path_factory.mktemp("pages")
    result = pretrain(noise_store, folder / "run", tiny_settings())
    run = save_report(folder / "run", store=noise_store, reading=result.reading, verdict=result.verdict)
    return {"run": run, "store": save_report(noise_store, out=folder / "store.html")}


@pytest.fixture(params=["run", "store", "fine-tuning"])
def page(request, pages, complete):
    return save_report(complete) if request.param == "fine-tuning" else pages[request.param]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_an_error_or_a_request_and_fits_its_width(browser, page, width, scheme):
    browser.show(page, width, 800, scheme)
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.problems == []
    assert browser.value("document.documentElement.scrollWidth") == width
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    levels = [int(level) for level in background.removeprefix("rgb(").removesuffix(")").split(",")]
    assert (min(levels) > 200) if scheme == "light" else (max(levels) < 60)
    images = "[...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert browser.value(images) == 0


def test_a_page_that_asks_for_something_or_has_an_error_is_seen(browser, tmp_path):
    (tmp_path / "page.html").write_text("<html><body><img src='other.png'><script>boom()</script></body></html>")
    browser.show(tmp_path / "page.html")
    assert len(browser.requests) == 2 and browser.requests[1].endswith("other.png")
    assert any("boom" in problem for problem in browser.problems)


def test_the_policy_of_a_page_blocks_what_would_be_asked_for(browser, page, tmp_path):
    text = page.read_text().replace("</main>", "<img src='https://127.0.0.1:9/x.png'><script>boom()</script></main>")
    (tmp_path / "page.html").write_text(text)
    browser.show(tmp_path / "page.html")
    assert any("Content Security Policy" in problem for problem in browser.problems)
    assert not any("boom" in problem and "not defined" in problem for problem in browser.problems)


def test_the_keyboard_reaches_the_content_every_section_and_what_is_hidden(browser, page):
    browser.show(page)
    browser.press(*TAB)
    assert browser.value("document.activeElement.className") == "skip"
    assert browser.value("document.activeElement.getBoundingClientRect().left >= 0")  # it is seen now
    browser.press(*ENTER)
    assert browser.value("document.activeElement.id") == "main"
    browser.show(page)
    reached = []
    count = browser.value("document.querySelectorAll('a, summary, [tabindex=\"0\"]').length")
    for _ in range(count):
        browser.press(*TAB)
        reached.append(browser.value("document.activeElement.outerHTML.slice(0, 60)"))
    links = browser.value("[...document.querySelectorAll('nav a')].map(link => link.outerHTML.slice(0, 60))")
    assert set(links) <= set(reached)
    if browser.value("document.querySelectorAll('summary').length"):
        assert any(text.startswith("<summary") for text in reached)
        browser.value("document.querySelector('summary').focus()")
        browser.press(*ENTER)
        assert browser.value("document.querySelector('details').open")


def test_sections_are_landmarks_and_everything_has_a_name(browser, page):
    browser.show(page)
    missing = """JSON.stringify({
      images: [...document.querySelectorAll('img')].filter(one => !one.alt).length,
      charts: [...document.querySelectorAll('svg')].filter(
        one => !one.getAttribute('aria-label') && one.getAttribute('aria-hidden') !== 'true').length,
      headings: [...document.querySelectorAll('th')].filter(one => !one.scope).length,
      tables: [...document.querySelectorAll('table')].filter(one => !one.caption).length,
      sections: [...document.querySelectorAll('section')].filter(
        one => !document.getElementById(one.getAttribute('aria-labelledby'))).length,
      links: [...document.querySelectorAll('nav a')].filter(one => !document.querySelector(one.hash)).length,
    })"""
    assert json.loads(browser.value(missing)) == dict.fromkeys(
        ("images", "charts", "headings", "tables", "sections", "links"), 0
    )
    parts = "['header', 'nav', 'main', 'footer', 'h1'].map(one => document.querySelectorAll(one).length).join()"
    assert browser.value(parts) == "1,1,1,1,1"
    assert browser.value("document.documentElement.lang") == "en"
