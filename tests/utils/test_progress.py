"""Progress of long work: one count, and what is shown beside it."""

import io
import logging

import pytest
from rich.console import Console

from usvs.utils import progress
from usvs.utils.progress import track


def test_log_lines_count_what_was_done_before_and_show_the_note(monkeypatch: pytest.MonkeyPatch, caplog):
    monkeypatch.setattr(progress, "LOG_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(progress, "MIN_LOGGED_SECONDS", 0.0)
    losses: list[float] = []
    with caplog.at_level(logging.INFO, "usvs"):
        for item in track(iter([3.0, 2.0]), "pretraining", 5, done=3, note=lambda: f"loss {losses[-1]:.3f}"):
            losses.append(item)
    assert [line.partition(" s")[0].rpartition(", ")[0] for line in caplog.messages[:2]] == [
        "pretraining: 4 of 5, loss 3.000",
        "pretraining: 5 of 5, loss 2.000",
    ]
    assert caplog.messages[2].startswith("pretraining: 5 of 5 done, loss 2.000 in ")


def test_a_bar_has_one_count_and_the_note(monkeypatch: pytest.MonkeyPatch):
    written = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=written, force_terminal=True, width=160, color_system=None))
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    label = "fine-tuning, init 2 of 2 (a[b]), fold 1 of 3"
    assert list(track(range(2), label, 4, done=2, note=lambda: "loss 0.123")) == [0, 1]
    last = [line for line in written.getvalue().splitlines() if "4/4" in line][-1]
    assert label in last and "loss 0.123" in last and last.count("/") == 1


def test_a_length_is_known_and_an_empty_list_shows_nothing(caplog):
    with caplog.at_level(logging.INFO, "usvs"):
        assert list(track([], "nothing")) == [] and list(track([1, 2], "two")) == [1, 2]
    assert caplog.messages == []
