import json

import numpy as np
import pytest
import torch

from usvs.cli import main
from usvs.errors import DataError
from usvs.tasks.diagnosis.agreement import agreement_of
from usvs.tasks.diagnosis.diagnose import diagnose
from usvs.tasks.pretraining.collapse import CollapseWarning
from usvs.tasks.pretraining.pretrain import pretrain
from usvs.training.metrics_log import read_metrics


@pytest.fixture(scope="module")
def run(noise_store, tiny, tmp_path_factory):
    """A run of six steps on noise."""
    return pretrain(noise_store, tmp_path_factory.mktemp("diagnosis") / "run", tiny())


@pytest.mark.slow
def test_a_run_on_noise_is_not_said_to_learn(noise_store, run):
    found = diagnose(noise_store, run.run)
    assert found.run is not None and found.run.steps == 6
    assert [loss.name for loss in found.run.losses] == ["correspondence", "contrastive", "order"]
    assert all(loss.train and loss.unseen and loss.verdict != "learning" for loss in found.run.losses)
    assert [each.scans for each in found.agreement] == [1, 1, 1] and found.agreement[0].clips >= 3
    assert found.contents.training_patients == 3 and found.contents.patients == 4
    assert "training patients" in str(found) and str(found).splitlines()[-1].startswith("verdict: ")
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["run"]["losses"]["contrastive"]["verdict"]


def test_pretraining_ends_with_the_same_reading(noise_store, run):
    assert run.reading is not None and run.reading.losses == diagnose(noise_store, run.run).run.losses
    assert str(run).splitlines()[-1] == f"verdict: {run.verdict}"


def test_rank_and_spread_are_logged_at_every_validation(run):
    records = [record for record in read_metrics(run.run) if record["split"] == "validation"]
    names = ("video_rank", "video_spread", "speech_rank", "speech_spread")
    assert len(records) == 2 and all(np.isfinite(record[name]) for record in records for name in names)


@pytest.mark.slow
def test_a_collapsed_stream_is_reported_once(noise_store, tiny, tmp_path, caplog, monkeypatch):
    from usvs.models.two_stream import TwoStream

    constant = TwoStream._speech_embeddings
    monkeypatch.setattr(TwoStream, "_speech_embeddings", lambda *given: 0 * constant(*given) + 1)
    pretrain(noise_store, tmp_path / "run", tiny())
    assert caplog.text.count("the speech embeddings are nearly all alike") == 1


def test_each_stream_is_reported_once(caplog):
    warning = CollapseWarning()
    fine = {"video_rank": 12.0, "video_spread": 0.9, "speech_rank": 8.0, "speech_spread": 0.8}
    for changed in ({}, {"speech_rank": 1.4}, {"speech_rank": 1.2}, {"video_spread": 1e-5, "speech_rank": 1.2}):
        warning.check(fine | changed)
    warning.check({})  # nothing was measured
    assert [record.getMessage().split()[1] for record in caplog.records] == ["speech", "video"]


def test_a_run_of_another_store_is_refused(run, store_writer, tmp_path):
    other = store_writer(tmp_path / "store", patients=False)
    with pytest.raises(DataError, match=r"expected one that was pretrained on store .* got one of other patients"):
        diagnose(other, run.run)


def test_an_archive_without_speech_or_sound(silent_store, store_writer, tmp_path, tiny):
    assert diagnose(silent_store, settings=tiny()).verdict.text.startswith(
        "this archive cannot carry it, because no scan has sound"
    )
    quiet = diagnose(store_writer(tmp_path / "store", speech=0.2), settings=tiny())
    assert quiet.verdict.can_carry is False and quiet.contents.pair_clips == 0


def test_the_command(noise_store, capsys):
    main(["diagnose", str(noise_store), "--profile", "quick", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["contents"]["clips"] == 24 and printed["run"] is None and printed["verdict"]["can_carry"] is False


def test_agreement_within_and_between_scans():
    random = torch.Generator().manual_seed(0)
    scans = [torch.nn.functional.normalize(torch.randn(5, 64, generator=random) + 2, dim=1) for _ in range(6)]
    own = agreement_of("own", [(scan, scan) for scan in scans])
    assert own.retrieval == 1.0 and own.same_clip == pytest.approx(1.0) and own.same_clip > own.same_scan
    assert own.chance == pytest.approx(0.2) and own.above_chance and own.clips == 30
    mixed = agreement_of("mixed", [(scan, scan.roll(1, 0)) for scan in scans])
    assert mixed.retrieval == 0.0 and not mixed.above_chance
    alike = agreement_of("alike", [(torch.ones(5, 4) / 2, torch.ones(5, 4) / 2)] * 3)
    assert alike.retrieval == pytest.approx(0.2) and not alike.above_chance
    same = [torch.stack([scans[0][0]] * 4)] * 2
    assert agreement_of("scans", [(each, each) for each in same]).other_scan == pytest.approx(1.0)
    assert np.isnan(agreement_of("one", [(scans[0], scans[0])]).other_scan)


def intervals(path, label_of) -> str:
    """Label both halves of every scan of a store of noise."""
    lines = ["file,start_seconds,end_seconds,label"]
    for scan in range(4):
        lines += [f"{scan:012x}.mp4,{6 * half},{6 * half + 6},{label_of(scan, half)}" for half in (0, 1)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_labels_that_neither_stream_shows(noise_store, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("usvs.tasks.diagnosis.labelled_samples.TRAIN_SAMPLES", 90)
    monkeypatch.setattr("usvs.tasks.diagnosis.labelled_samples.TEST_SAMPLES", 60)
    labels = intervals(tmp_path / "labels.csv", lambda scan, half: "ab"[half])
    settings = tiny().model_copy(update={"validation_fraction": 0.5})
    found = diagnose(noise_store, labels=labels, settings=settings, updates=3)
    assert found.ceilings is not None and found.ceilings.speech is not None
    assert found.ceilings.picture.updates == 3 and found.ceilings.picture.test_patients == 2
    assert sum(map(sum, found.ceilings.picture.confusion)) == found.ceilings.picture.test_samples == 60
    assert found.verdict.can_carry is False and "speech does not name what is visible" in found.verdict.text
    assert found.ceilings.label_nats == pytest.approx(np.log(2), abs=0.05) and found.ceilings.bound_nats < 0.1
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["ceilings"]["picture"]["at_chance"]
    same = intervals(tmp_path / "same.csv", lambda scan, half: "a")
    with pytest.raises(DataError, match=r"expected at least two different ones .* got 1 and 1"):
        diagnose(noise_store, labels=same, settings=settings, updates=3)


def test_labels_of_the_store_are_needed_where_they_are_asked_for(noise_store, tiny):
    with pytest.raises(DataError, match="has no labels: expected labels in the archive"):
        diagnose(noise_store, labels="store", settings=tiny())
