import json

import numpy as np
import pytest
import torch

from usvs.audio.settings import SpectrogramSettings
from usvs.errors import ConfigError, DataError
from usvs.evaluation.folds import Fold
from usvs.experiments import paper, pretrainings
from usvs.experiments import tables as reproduce_tables
from usvs.experiments.reproduce import PRETRAINED, ReproduceSettings, reproduce, reproduce_profile
from usvs.report.reproduction import save_reproduction_figures
from usvs.tasks import protocols as readings
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.tasks.saliency.settings import SaliencySettings
from usvs.training.settings import OptimiserSettings


@pytest.fixture(scope="module")
def settings(tiny_planes):
    optimiser = tiny_planes.optimiser.model_copy(update={"epochs": 1})
    planes = tiny_planes.model_copy(update={"optimiser": optimiser, "temporal_stride": 12, "folds": 2})
    shared = {name: getattr(planes, name) for name in ("profile", "model", "optimiser", "run", "folds")}
    return ReproduceSettings(
        profile="quick",
        pretrain=PretrainSettings(
            profile="quick",
            model=tiny_planes.model,
            spectrogram=SpectrogramSettings(n_fft=256, frames=32),
            optimiser=OptimiserSettings(kind="adamw", schedule="one_cycle", epochs=1, batch_clips=8),
            run=tiny_planes.run,
            validation_fraction=0.0,
        ),
        planes=planes,
        gaze=SaliencySettings(**shared, temporal_stride=24, head_width=8),
        pretraining_fraction=0.5,
    )


@pytest.fixture(scope="module")
def finished(tiny_store, settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduce") / "out"
    return out, reproduce(tiny_store, out, settings, seeds=[0])


def test_every_row_of_both_tasks_is_measured_and_kept(finished):
    out, result = finished
    measured = result.results["measured"]
    rows = ["random", *PRETRAINED]
    for reading in ("planes", "gaze", "probe", "knn"):
        assert list(measured[reading]) == rows
        for cells in measured[reading].values():
            assert [(cell["seed"], cell["fold"]) for cell in cells] == [(0, 0), (0, 1)]
    assert {cell["calibrated"] for cell in measured["probe"]["random"]} == {True}
    assert {cell["calibrated"] for cell in measured["probe"]["joint"]} == {False}
    starts = {row: {cell["encoder_sha256"] for cell in measured["planes"][row]} for row in rows}
    assert all(len(start) == 1 for start in starts.values())
    assert len({start.pop() for start in starts.values()}) == 6
    people = result.results["patients"]
    assert not set(people["pretraining"]) & set(people["downstream"])
    for row in rows:
        folder = out / "run" / "detectors" / "gaze" / f"{row}_seed_0" / "fold_1"
        assert (folder / "model.safetensors").exists()
    for row in ("joint", "shuffled"):
        assert 0 <= result.results["held_out"][row][0]["pool_top1_video_to_speech"] <= 1
    assert result.results["held_out"]["video"] == [{}]


def test_the_tables_stand_beside_the_papers(finished):
    text = str(finished[1])
    for line in ("Table 1.", "Table 2.", "Table 3.", "Retrieval", "Claims"):
        assert line in text
    f1 = next(line for line in text.splitlines() if line.startswith("F1-score"))
    ours = [100 * cell["f1"] for cell in finished[1].results["measured"]["planes"]["joint"]]
    assert f"{np.mean(ours):.1f} ± {np.std(ours, ddof=1):.1f}" in f1
    assert "72.6 ± 1.7" in text and "2.68 ± 0.05" in text and "84.5 ± 0.9" in text
    assert "ImageNet Init.: not run: no weights given (--imagenet FILE)" in text
    assert "SonoNet: not run: no weights given (--sononet FILE)" in text
    # two cells can prove nothing, whatever they say
    assert "does not hold" in text and "p = 0.0" not in text


def test_figures_are_drawn_from_what_is_stored(finished):
    saved = save_reproduction_figures(finished[0])
    assert [file.name for file in saved] == ["figure_3.png", "figure_4.png"]
    assert all(file.stat().st_size > 20_000 for file in saved)


def test_a_second_call_measures_nothing_again(finished, tiny_store, settings, monkeypatch):
    out, result = finished

    def fail(*arguments, **options):
        raise AssertionError("measured again")

    for module, name in ((pretrainings, "pretrain"), (readings, "finetune_fold"), (readings, "frozen_features")):
        monkeypatch.setattr(module, name, fail)
    again = reproduce(tiny_store, out, settings, seeds=[0])
    assert again.results["measured"] == result.results["measured"]


def test_other_settings_or_other_things_are_never_mixed_in(finished, tiny_store, settings, tmp_path):
    other = settings.model_copy(update={"keep_networks": False})
    with pytest.raises(ConfigError, match="cells of other settings or another store"):
        reproduce(tiny_store, finished[0], other, seeds=[0])
    (tmp_path / "out" / "run").mkdir(parents=True)
    (tmp_path / "out" / "run" / "thing").touch()
    with pytest.raises(ConfigError, match="holds no run of kind 'reproduce'"):
        reproduce(tiny_store, tmp_path / "out", settings, seeds=[0])


def test_other_weights_are_not_mixed_in_either(tiny_store, settings, tmp_path):
    from usvs.experiments.reproduce import _Job
    from usvs.models.sononet import SonoNet

    for name in ("one", "other"):
        torch.save(SonoNet(16).state_dict(), tmp_path / f"{name}.pth")
    one, other = ({"sononet": f"sononet:{tmp_path / name}.pth"} for name in ("one", "other"))
    out = tmp_path / "out"
    for external in ({}, one, one, {}):  # weights may come later, and need not be given again
        _Job(tiny_store, out, settings, external, allow_overlap=False)
    with pytest.raises(ConfigError, match="cells of other sononet weights"):
        _Job(tiny_store, out, settings, other, allow_overlap=False)


def test_an_overlap_must_be_typed_and_is_then_said(finished, tiny_store, settings, tmp_path, monkeypatch):
    from usvs.experiments import reproduce as module

    job = module._Job(tiny_store, tmp_path / "apart", settings, {}, allow_overlap=False)
    trained = json.dumps({"trained": list(job.downstream), "held_out": []})
    run = job.out / "pretrain" / "joint_seed_0"
    run.mkdir(parents=True)
    (run / "patients.json").write_text(trained)
    fold = Fold(0, job.downstream[:1], job.downstream[1:])
    with pytest.raises(DataError, match="test patients were pretrained on"):
        job._init("joint", 0, fold)
    together = module._Job(tiny_store, tmp_path / "together", settings, {}, allow_overlap=True)
    assert set(together.downstream) == set(together.pretraining)


def test_nothing_of_the_archive_stands_in_the_results(finished, tiny_archive, tiny_store):
    text = (finished[0] / "results.json").read_text()
    assert str(tiny_archive) not in text and str(tiny_store) not in text
    for folder in tiny_archive.iterdir():
        assert f'"{folder.name}"' not in text


def claimed(better, worse, score="f1", reading="planes", values=(0.5, 0.6, 0.7, 0.4, 0.5, 0.6)):
    up = [{score: value} for value in values]
    down = [{score: value - 0.1 + 0.01 * place} for place, value in enumerate(values)]
    return {reading: {better: up, worse: down}}


def test_a_claim_holds_in_its_own_direction_only():
    claim = reproduce_tables.Claim("planes", "f1", "joint", "video")
    tested = reproduce_tables.check_claim(claimed("joint", "video"), claim)
    assert tested.holds and tested.difference.p_value == pytest.approx(2 / 64)
    assert not reproduce_tables.check_claim(claimed("video", "joint"), claim).holds
    assert reproduce_tables.check_claim({"planes": {"joint": [{"f1": 1.0}]}}, claim) is None
    few = claimed("joint", "video", values=(0.5, 0.6, 0.7))
    assert not reproduce_tables.check_claim(few, claim).holds
    kl = reproduce_tables.Claim("gaze", "kl", "joint", "video")
    assert reproduce_tables.check_claim(claimed("video", "joint", "kl", "gaze"), kl).holds  # lower is better


def test_every_order_the_paper_found_is_among_the_claims_and_true_of_its_own_figures():
    found = {(claim.reading, claim.score, claim.better, claim.worse) for claim in reproduce_tables.claims()}
    assert ("planes", "f1", "joint", "video") in found and ("gaze", "kl", "video", "random") in found
    assert ("gaze", "nss", "contrastive", "baseline") in found and ("planes", "f1", "joint", "shuffled") in found
    assert ("probe", "f1", "video", "random") in found
    for reading, score, better, worse in found:
        table = {"planes": paper.PLANES, "gaze": paper.GAZE}.get(reading, {})
        if better in table and worse in table:
            sign = -1 if score == "kl" else 1
            assert sign * (table[better][score][0] - table[worse][score][0]) > 0, (reading, score, better, worse)


def test_the_profiles_hold_what_they_should():
    for profile in ("quick", "paper"):
        settings = reproduce_profile(profile)
        assert settings.pretrain.profile == settings.planes.profile == settings.gaze.profile == profile
        assert settings.planes.model.video == settings.pretrain.model.video == settings.gaze.model.video
    assert reproduce_profile("paper").pretrain.optimiser == PretrainSettings().optimiser
