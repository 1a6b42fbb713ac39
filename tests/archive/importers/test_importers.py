"""The registry of importers: the command line lists and runs what is in it."""

import inspect
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from usvs.archive import importers
from usvs.archive.importers import IMPORTERS, Importer, ImportSummary, parse_label_map
from usvs.cli import main
from usvs.errors import ConfigError

calls: list[tuple[Path, Path, dict[str, str | None]]] = []


def import_toy(source, archive, label_map=None) -> ImportSummary:
    """Import nothing."""
    calls.append((source, archive, label_map))
    return ImportSummary(3, 2, 1, {"femur": 2, "unlabelled": 1})


@pytest.mark.parametrize("name", IMPORTERS)
def test_importers_share_one_signature(name: str):
    assert list(inspect.signature(IMPORTERS[name].load()).parameters) == ["source", "archive", "label_map"]


def test_an_importer_is_added_by_one_entry(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setitem(importers.IMPORTERS, "toy", Importer("a toy set", __name__, "import_toy"))
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(import_toy=import_toy))
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    assert "a toy set" in capsys.readouterr().out
    main(["import", "toy", str(tmp_path), str(tmp_path / "archive"), "--map", "Other=background", "--map", "Toe="])
    assert calls == [(tmp_path, tmp_path / "archive", {"Other": "background", "Toe": None})]
    assert "import: 3 images of 2 patients in 1 lossless videos" in capsys.readouterr().err


def test_a_label_map_needs_an_equals_sign():
    with pytest.raises(ConfigError, match=r"--map: expected LABEL=PLANE, .*, got 'femur'"):
        parse_label_map(["Other=background", "femur"])
