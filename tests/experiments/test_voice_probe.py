"""`usvs probe-voice`: every figure is measured on patients that the run has not seen, and stored."""

import json
import sys

import pytest

from tests.support.labelled_stores import PLANES_SHOWN
from tests.support.labelled_stores import write_store as write_labelled_store
from tests.support.pretraining_stores import tiny_settings
from usvs.archive.labels import STANDARD_PLANES
from usvs.cli import main
from usvs.errors import ConfigError, DataError
from usvs.experiments.voice_probe import probe_voice, read_voices
from usvs.narration.voice import draw_voice


def test_voices_of_an_archive(tmp_path):
    assert read_voices("3:2") == (draw_voice(3, 0), draw_voice(3, 1))
    (tmp_path / "archive.json").write_text(json.dumps({"voices": [vars(draw_voice(3, 0))]}))
    assert read_voices(str(tmp_path / "archive.json")) == (draw_voice(3, 0),)
    for source in ("3:0", "a:2", "nowhere.json", "3"):
        with pytest.raises(ConfigError, match=r"expected archive\.json of a ground truth or SEED:COUNT"):
            read_voices(source)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on noise of four patients, and a store with labels of the same and of other patients."""
    from tests.support.pretraining_stores import write_store
    from usvs.tasks.pretraining.pretrain import pretrain

    folder = tmp_path_factory.mktemp("probe")
    settings = tiny_settings()
    optimiser = settings.optimiser.model_copy(update={"epochs": 1})
    store = write_store(folder / "noise")
    return pretrain(store, folder / "run", settings.model_copy(update={"optimiser": optimiser})).run


@pytest.mark.slow
def test_all_figures_are_written(run, tmp_path, capsys, monkeypatch):
    trained = json.loads((run / "patients.json").read_text())["trained"]
    store = write_labelled_store(tmp_path / "store", [trained[0], trained[1], "9a7000000000", "9a7000000001"])
    names = [STANDARD_PLANES[number] for number in PLANES_SHOWN]
    (tmp_path / "classes.txt").write_text("\n".join(names))
    out = tmp_path / "new" / "out.json"
    arguments = ["probe-voice", store, run, out, "--classes", tmp_path / "classes.txt", "--voices", "2"]
    words = [str(each) for each in [*arguments, "--seen-voices", "3:1", "--control", run]]
    monkeypatch.setattr(sys, "argv", ["usvs", *words])
    main(words)
    results = json.loads(out.read_text())
    assert results["test"]["patients"] == 2 and results["test"]["frames"] == 2 * 2 * 3  # every eighth of 24
    assert set(results["measured"]) == {
        *("unseen voices", "seen voices", "shuffled speech, unseen voices", "shuffled speech, seen voices"),
        "supervised linear probe",
    }
    assert results["chance"]["top1"] == pytest.approx(1 / 3) and results["environment"]["device"]
    assert results["command"][-2:] == ["--control", "RUN"] and str(tmp_path) not in json.dumps(results["command"])
    one, control = (results["measured"][f"{prefix}unseen voices"] for prefix in ("", "shuffled speech, "))
    assert one == control  # the same run
    printed = capsys.readouterr().out
    assert "12 frames of 2 unseen patients, 3 classes; chance: top-1 33.3 %" in printed
    assert out.stat().st_mode & 0o777 == 0o600
    with pytest.raises(DataError, match="expected frames of unseen patients with labels heart, lung, got none"):
        (tmp_path / "classes.txt").write_text("heart\nlung")
        probe_voice(store, run, out, classes=tmp_path / "classes.txt", voices=1)
