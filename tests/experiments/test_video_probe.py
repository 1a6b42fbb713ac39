import json

import pytest
import torch

from usvs.errors import DataError
from usvs.experiments import pretrainings
from usvs.experiments.video_probe import INITS, VideoProbeSettings, _Job, probe_videos, read_video_labels
from usvs.models.se_resnext import SEResNeXt
from usvs.tasks import initial_encoder as inits
from usvs.tasks.pretraining.settings import PretrainSettings

LINES = ["file,label,source_id"] + [f"{n}.mp4,{'abc'[n % 3]},{n // 3}" for n in range(12)]


@pytest.fixture
def labels(grating_store, tmp_path):
    """Twelve videos of three classes; three videos a source, so that a source has one of each."""
    (tmp_path / "labels.csv").write_text("\n".join([*LINES, "99.mp4,a,7", "3.mp4,viral,7"]) + "\n")
    return read_video_labels(grating_store, tmp_path / "labels.csv", ["a", "b", "c"])


@pytest.fixture
def settings(tiny_planes):
    read = tiny_planes.model_copy(update={"temporal_stride": 6})
    return VideoProbeSettings(pretrain=PretrainSettings(profile="quick", model=tiny_planes.model), read=read)


def stand_in(monkeypatch, settings):
    calls = []

    def pretrain(store, run, chosen, resume, patients):
        calls.append((run.name, chosen.objective, chosen.run.seed, tuple(patients)))
        run.mkdir(parents=True)
        (run / "metrics.jsonl").write_text("")

    def load(path):
        torch.manual_seed(5)
        return SEResNeXt(settings.read.model.video)

    monkeypatch.setattr(pretrainings, "pretrain", pretrain)
    monkeypatch.setattr(inits, "load_encoder", load)
    return calls


def write_sources(tmp_path, sources):
    lines = ["file,label,source_id"] + [f"{n}.mp4,{'ab'[n % 2]},{source}" for n, source in enumerate(sources)]
    (tmp_path / "sources.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "sources.csv"


def test_labels_are_found_by_file_name_and_others_left_out(labels):
    assert len(labels.label) == 12 and labels.label[4] == 1 and labels.source[4] == "1"


def test_sources_never_stand_on_both_sides_and_pretraining_sees_the_training_side_only(
    grating_store, tmp_path, settings, monkeypatch
):
    calls = stand_in(monkeypatch, settings)
    # two videos a patient in this store; each patient is a source, of one class
    lines = ["file,label,source_id"] + [f"{n}.mp4,{'aabb'[n // 2 % 4]},{n // 2}" for n in range(12)]
    (tmp_path / "l.csv").write_text("\n".join(lines) + "\n")
    labels = read_video_labels(grating_store, tmp_path / "l.csv", ["a", "b"])
    result = probe_videos(grating_store, tmp_path / "out", labels, settings, repeats=3)
    cells = result.results["measured"]
    assert {len(cells[init]) for init in INITS} == {6}
    assert len(calls) == 6 and len({call[2] for call in calls}) == 6
    for call in calls:
        assert call[1].correspondence_weight == call[1].contrastive_weight == 0
    job = _Job(grating_store, tmp_path / "out", labels, settings)
    for repeat in range(3):
        folds = job.folds(repeat)
        assert sorted(folds[0].test + folds[1].test) == [str(n) for n in range(6)]
        for fold, call in zip(folds, calls[2 * repeat : 2 * repeat + 2], strict=True):
            assert not set(fold.train) & set(fold.test)
            trained = {store_scan.patient_key for store_scan in map(job.store.scan, labels.of_sources(fold.train))}
            assert set(call[3]) == trained
    assert job.folds(0) != job.folds(1) or job.folds(1) != job.folds(2)
    text = str(result)
    assert "3 repeats x 2 folds by source" in text and "frame order - random, videos" in text
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored["videos"] == {"a": 8, "b": 4} and stored["measured"] == cells


def test_a_patient_of_two_sources_is_refused(grating_store, tmp_path, settings, monkeypatch):
    stand_in(monkeypatch, settings)
    labels = read_video_labels(grating_store, write_sources(tmp_path, range(12)), ["a", "b"])
    with pytest.raises(DataError, match=r"pretraining and test share \d+ patients: 9a7"):
        probe_videos(grating_store, tmp_path / "out", labels, settings, repeats=1)


def test_what_is_missing_is_said(grating_store, tmp_path, settings):
    (tmp_path / "l.csv").write_text("name,label,source_id\n0.mp4,a,1\n")
    with pytest.raises(DataError, match="column 'file' is missing"):
        read_video_labels(grating_store, tmp_path / "l.csv", ["a", "b"])
    (tmp_path / "l.csv").write_text("file,label,source_id\n0.mp4,a,1\n1.mp4,a,2\n")
    with pytest.raises(DataError, match="expected videos of at least two of a, b"):
        read_video_labels(grating_store, tmp_path / "l.csv", ["a", "b"])
    (tmp_path / "l.csv").write_text("file,label,source_id\n0.mp4,a,1\n2.mp4,b,2\n4.mp4,b,3\n")
    labels = read_video_labels(grating_store, tmp_path / "l.csv", ["a", "b"])
    with pytest.raises(DataError, match="2 folds need as many sources of 'a', got 1"):
        probe_videos(grating_store, tmp_path / "out", labels, settings, repeats=1)
