"""`reproduce` as a whole; one file because most tests read the one complete run that it takes a minute to make."""

import shutil

import matplotlib.image
import numpy as np
import pytest
import torch

from tests.support.experiment_stubs import stub_measuring, stub_pretraining
from tests.support.interruptions import FileOperations, Interrupted, interruptions
from tests.support.labelled_stores import PATIENTS, tiny_pretraining, write_store
from usvs.errors import ConfigError, DataError
from usvs.experiments import tables
from usvs.experiments.presets import PRESETS, ReproduceSettings, reproduce_profile
from usvs.experiments.reproduce import reproduce
from usvs.experiments.rows import ROWS
from usvs.models.sononet import SonoNet
from usvs.report.experiments import save_reproduction_figures
from usvs.tasks import fingerprint
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.tasks.saliency.settings import SaliencySettings

PRETRAINED = PRESETS["paper"].pretrained


@pytest.fixture(scope="module")
def settings(tiny_planes):
    optimiser = tiny_planes.optimiser.model_copy(update={"epochs": 1})
    planes = tiny_planes.model_copy(update={"optimiser": optimiser, "temporal_stride": 12, "folds": 2})
    shared = {name: getattr(planes, name) for name in ("profile", "model", "optimiser", "run", "folds")}
    return ReproduceSettings(
        profile="quick",
        pretrain=tiny_pretraining(tiny_planes, validation_fraction=0.0),
        planes=planes,
        gaze=SaliencySettings(**shared, temporal_stride=24, head_width=8),
        pretraining_fraction=0.5,
    )


@pytest.fixture(scope="module")
def finished(tiny_store, settings, tmp_path_factory):
    """A complete run of everything, without stand-ins, by two processes: its folder and its result."""
    out = tmp_path_factory.mktemp("reproduce") / "out"
    return out, reproduce(tiny_store, out, settings, seeds=[0], jobs=2)


@pytest.fixture
def stubbed(monkeypatch, settings):
    """Stand-ins for pretraining and measuring; returns what is asked of them."""
    calls = stub_pretraining(monkeypatch, settings.planes.model.video)
    stub_measuring(monkeypatch, calls)
    return calls


@pytest.mark.slow
def test_every_row_of_both_tasks_is_measured_and_stored(finished):
    out, result = finished
    measured = result.results["measured"]
    rows = ["random", *PRETRAINED]
    for evaluation in ("planes", "gaze", "probe", "knn"):
        assert list(measured[evaluation]) == rows
        for results in measured[evaluation].values():
            assert [(one["seed"], one["fold"]) for one in results] == [(0, 0), (0, 1)]
    assert {one["calibrated"] for one in measured["probe"]["random"]} == {True}
    assert {one["calibrated"] for one in measured["probe"]["joint"]} == {False}
    starts = {row: {one["encoder_sha256"] for one in measured["planes"][row]} for row in rows}
    assert all(len(start) == 1 for start in starts.values())
    assert len({start.pop() for start in starts.values()}) == len(rows)
    patients = result.results["patients"]
    assert not set(patients["pretraining"]) & set(patients["downstream"])
    for task in ("planes", "gaze"):
        for row in rows:
            assert (out / "run" / "models" / task / f"{row}_seed_0" / "fold_1" / "model.safetensors").exists()
    losses = result.results["pretraining_losses"]
    for row in ("joint", "shuffled"):
        assert 0 <= losses[row][0]["pool_top1_video_to_speech"] <= 1
    assert losses["video"] == [{}]


@pytest.mark.slow
def test_the_tables_show_measured_and_published_values(finished):
    text = str(finished[1])
    for line in ("Table 1.", "Table 2.", "Table 3.", "Retrieval", "Claims", "mean ± standard deviation"):
        assert line in text
    f1 = next(line for line in text.splitlines() if line.startswith("F1-score"))
    joint = [100 * result["f1"] for result in finished[1].results["measured"]["planes"]["joint"]]
    assert f"{np.mean(joint):.1f} ± {np.std(joint, ddof=1):.1f}" in f1
    assert "72.6 ± 1.7" in text and "2.68 ± 0.05" in text and "84.5 ± 0.9" in text
    assert "ImageNet Init.: not run: no weights given (--imagenet FILE)" in text
    assert "SonoNet: not run: no weights given (--sononet FILE)" in text
    # two folds of one seed can prove nothing, whatever they are
    assert "does not hold" in text and "p = 0.0" not in text


@pytest.mark.slow
def test_the_figures_are_drawn_from_the_stored_results(finished):
    saved = save_reproduction_figures(finished[0])
    assert [file.name for file in saved] == ["figure_3.png", "figure_4.png"]
    for file in saved:
        pixels = matplotlib.image.imread(file)[..., :3]
        assert (pixels < 0.9).any(axis=2).mean() > 0.02  # an empty figure is white


def untimed(results):
    """Return results without what differs from run to run."""
    if isinstance(results, dict):
        return {name: untimed(value) for name, value in results.items() if not name.endswith("seconds")}
    return [untimed(value) for value in results] if isinstance(results, list) else results


@pytest.mark.slow
def test_several_jobs_give_the_bits_of_one(tiny_store, settings, finished, tmp_path):
    """`finished` was measured by two: what is removed and measured again by one is the same."""
    out, result = finished
    shutil.copytree(out, tmp_path / "out")
    results = tmp_path / "out" / "run" / "results"
    for name in ("planes_joint_seed_0_fold_1", "gaze_random_seed_0_fold_0", "pretraining_video_seed_0"):
        (results / f"{name}.json").unlink()
    (results / "pretraining_losses_joint_seed_0.json").unlink()
    shutil.rmtree(tmp_path / "out" / "run" / "pretrain" / "video_seed_0")
    again = reproduce(tiny_store, tmp_path / "out", settings, seeds=[0], jobs=1)
    for part in ("measured", "pretraining", "pretraining_losses"):
        assert untimed(again.results[part]) == untimed(result.results[part])
    for name in ("models/planes/joint_seed_0/fold_1", "pretrain/video_seed_0/checkpoints"):
        files = sorted(path for path in (out / "run" / name).rglob("*.safetensors") if path.is_file())
        assert files
        for file in files:
            assert (tmp_path / "out" / file.relative_to(out)).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_a_second_call_measures_nothing_again(finished, tiny_store, settings, stubbed):
    out, result = finished
    again = reproduce(tiny_store, out, settings, seeds=[0])
    assert stubbed.pretrained == stubbed.measured == []
    assert again.results["measured"] == result.results["measured"]


@pytest.mark.slow
def test_seeds_can_be_added_and_are_all_that_is_measured(gaze_store, tmp_path, settings, stubbed):
    first = reproduce(gaze_store, tmp_path / "out", settings, seeds=[0])
    count, pretrained = len(stubbed.measured), len(stubbed.pretrained)
    both = reproduce(gaze_store, tmp_path / "out", settings, seeds=[0, 1])
    assert len(stubbed.measured) == 2 * count and len(stubbed.pretrained) == 2 * pretrained
    for evaluation, rows in both.results["measured"].items():
        for row, results in rows.items():
            assert results[:2] == first.results["measured"][evaluation][row] and len(results) == 4
    assert {one["seed"] for one in both.results["measured"]["gaze"]["joint"]} == {0, 1}


@pytest.mark.slow
def test_an_interruption_at_any_file_operation_is_resumed_with_the_same_results(
    gaze_store, tmp_path, settings, stubbed
):
    few = settings.model_copy(update={"preset": "evidence", "few_patients": 1})
    with pytest.MonkeyPatch.context() as patch:
        counter = FileOperations(patch, tmp_path)
        expected = reproduce(gaze_store, tmp_path / "complete", few, seeds=[0]).results["measured"]
    first_operations = 16  # each one of these, then every 83rd
    numbers = [
        *interruptions(first_operations),
        *((number, after) for number, after in interruptions(counter.count, 83) if number > first_operations),
    ]
    assert counter.count > 100
    for number, after in numbers:
        out = tmp_path / f"interrupted_{number}_{after}"
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
            FileOperations(patch, tmp_path, number, after)
            reproduce(gaze_store, out, few, seeds=[0])
        assert reproduce(gaze_store, out, few, seeds=[0]).results["measured"] == expected, (number, after)


@pytest.mark.slow
def test_results_of_other_settings_or_other_content_are_refused(gaze_store, settings, tmp_path, stubbed):
    reproduce(gaze_store, tmp_path / "done", settings, seeds=[0])
    other = settings.model_copy(update={"keep_networks": False})
    with pytest.raises(ConfigError, match=r"results of other settings, .*settings\.keep_networks: expected true"):
        reproduce(gaze_store, tmp_path / "done", other, seeds=[0])
    (tmp_path / "out" / "run").mkdir(parents=True)
    (tmp_path / "out" / "run" / "thing").touch()
    with pytest.raises(ConfigError, match="expected an empty folder or results of kind 'reproduce', got 'thing'"):
        reproduce(gaze_store, tmp_path / "out", settings, seeds=[0])


@pytest.mark.slow
def test_results_of_other_code_are_refused(gaze_store, settings, tmp_path, stubbed, monkeypatch):
    reproduce(gaze_store, tmp_path / "out", settings, seeds=[0])
    monkeypatch.setattr(fingerprint, "code_sha256", lambda: "0123")
    with pytest.raises(ConfigError, match=r'code\.sha256: expected "\w+", got "0123"; choose a new folder'):
        reproduce(gaze_store, tmp_path / "out", settings, seeds=[0])


@pytest.mark.slow
def test_results_of_other_labels_are_refused(store_writer, tmp_path, settings, stubbed):
    patients = [f"9a7{number:09x}" for number in range(6)]
    before, after = (store_writer(tmp_path / name, patients, relabel=new) for name, new in (("a", {}), ("b", {3: 9})))
    reproduce(before, tmp_path / "out", settings, seeds=[0])
    with pytest.raises(ConfigError, match=r"data\.store_sha256: expected "):
        reproduce(after, tmp_path / "out", settings, seeds=[0])


@pytest.mark.slow
def test_one_run_at_a_time_uses_a_folder(gaze_store, tmp_path, settings, stubbed, monkeypatch):
    refused = []

    def second_run(store, run, patients):
        with pytest.raises(ConfigError, match="is in use by another usvs process") as error:
            reproduce(gaze_store, tmp_path / "out", settings, seeds=[0])
        refused.append(error.value)
        return {}

    monkeypatch.setattr("usvs.experiments.definition.evaluate_pretraining", second_run)
    reproduce(gaze_store, tmp_path / "out", settings, seeds=[0])
    assert len(refused) == len(PRETRAINED)
    reproduce(gaze_store, tmp_path / "out", settings, seeds=[0])  # and the folder is free afterwards


def test_several_processes_of_torchrun_are_refused(gaze_store, tmp_path, settings, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="expected one process, got WORLD_SIZE=2; start it without torchrun"):
        reproduce(gaze_store, tmp_path / "out", settings, seeds=[0])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_weights_can_be_given_later_but_not_exchanged(gaze_store, tmp_path, settings, stubbed):
    one, other = tmp_path / "one.pth", tmp_path / "other.pth"
    for file in (one, other):
        torch.save(SonoNet(16).state_dict(), file)
    out = tmp_path / "out"
    assert "sononet" not in reproduce(gaze_store, out, settings, seeds=[0]).results["measured"]["planes"]
    count = len(stubbed.measured)
    for weights in (one, one, None):
        result = reproduce(gaze_store, out, settings, seeds=[0], sononet=None if weights is None else str(weights))
        assert ("sononet" in result.results["measured"]["planes"]) == (weights is not None)
    assert len(stubbed.measured) == count + 8  # two folds of planes, probe, knn and gaze
    with pytest.raises(ConfigError, match="results of other sononet weights: encoder_sha256"):
        reproduce(gaze_store, out, settings, seeds=[0], sononet=str(other))
    with pytest.raises(ConfigError, match="preset 'evidence' has no row 'sononet'"):
        evidence = settings.model_copy(update={"preset": "evidence"})
        reproduce(gaze_store, tmp_path / "other", evidence, seeds=[0], sononet=str(one))


@pytest.mark.slow
def test_a_pretraining_that_saw_test_patients_is_refused_unless_allowed(gaze_store, tmp_path, settings, monkeypatch):
    apart = stub_pretraining(monkeypatch, settings.planes.model.video)
    stub_measuring(monkeypatch, apart)
    patients = reproduce(gaze_store, tmp_path / "apart", settings, seeds=[0]).results["patients"]
    everyone = sorted(patients["pretraining"] + patients["downstream"])
    assert {trained for _, _, trained in apart.pretrained} == {tuple(patients["pretraining"])}
    stub_measuring(monkeypatch, stub_pretraining(monkeypatch, settings.planes.model.video, everyone))
    with pytest.raises(DataError, match="test patients were pretrained on"):
        reproduce(gaze_store, tmp_path / "refused", settings, seeds=[0])
    together = reproduce(gaze_store, tmp_path / "together", settings, seeds=[0], allow_overlap=True)
    assert together.results["patients"] == {"pretraining": everyone, "downstream": everyone}
    assert "overlapping, as allowed" in str(together)


def test_rows_can_be_chosen_and_others_added_later(gaze_store, tmp_path, settings, stubbed):
    out, first = tmp_path / "out", ["joint", "random"]
    result = reproduce(gaze_store, out, settings, seeds=[0], rows=first)
    assert [run for run, _, _ in stubbed.pretrained] == ["joint_seed_0"]
    assert set(result.results["measured"]["planes"]) == set(result.results["measured"]["gaze"]) == set(first)
    count = len(stubbed.measured)
    reproduce(gaze_store, out, settings, seeds=[0], rows=["joint", "video"])
    assert [run for run, _, _ in stubbed.pretrained] == ["joint_seed_0", "video_seed_0"]
    assert len(stubbed.measured) == count + 8  # those of the new row: two folds of planes, probe, knn and gaze
    for wrong, message in ((["other"], "joint.*got other"), ([], "got none")):
        with pytest.raises(ConfigError, match=f"rows: expected some of random, video, .*{message}"):
            reproduce(gaze_store, out, settings, seeds=[0], rows=wrong)
    with pytest.raises(ConfigError, match="rows: expected preset 'paper', got 'evidence'"):
        reproduce(gaze_store, out, settings.model_copy(update={"preset": "evidence"}), seeds=[0], rows=first)


def test_scans_without_a_patient_are_not_pretrained_on(store_writer, tmp_path, settings, stubbed, caplog):
    patients = [f"9a7{number:09x}" for number in range(6)]
    store = store_writer(tmp_path / "store", [*patients, None], unlabelled=[12, 13])
    evidence = settings.model_copy(update={"preset": "evidence", "few_patients": 1})
    result = reproduce(store, tmp_path / "out", evidence, seeds=[0])
    assert sorted(key for keys in result.results["patients"].values() for key in keys) == patients
    assert "2 of 14 scans have no patient id: not used for pretraining" in caplog.text


@pytest.mark.slow
def test_results_contain_no_name_of_the_archive(finished, tiny_archive, tiny_store):
    text = (finished[0] / "results.json").read_text()
    assert str(tiny_archive) not in text and str(tiny_store) not in text
    for folder in tiny_archive.iterdir():
        assert f'"{folder.name}"' not in text


def claimed(better, worse, score="f1", evaluation="planes", values=(0.5, 0.6, 0.7, 0.4, 0.5, 0.6)):
    up = [{score: value} for value in values]
    down = [{score: value - 0.1 + 0.01 * position} for position, value in enumerate(values)]
    return {evaluation: {better: up, worse: down}}


def test_a_claim_holds_in_its_own_direction_only():
    claim = tables.Claim("planes", "f1", "joint", "video")
    tested = tables.check_claim(claimed("joint", "video"), claim)
    assert tested.holds and tested.difference.p_value == pytest.approx(2 / 64)
    assert not tables.check_claim(claimed("video", "joint"), claim).holds
    assert tables.check_claim({"planes": {"joint": [{"f1": 1.0}]}}, claim) is None
    few = claimed("joint", "video", values=(0.5, 0.6, 0.7))
    assert not tables.check_claim(few, claim).holds
    kl = tables.Claim("gaze", "kl", "joint", "video")
    assert tables.check_claim(claimed("video", "joint", "kl", "gaze"), kl).holds  # lower is better


def test_every_order_the_paper_found_is_among_the_claims_and_true_of_its_own_values():
    found = {(claim.evaluation, claim.score, claim.better, claim.worse) for claim in tables.claims()}
    assert ("planes", "f1", "joint", "video") in found and ("gaze", "kl", "video", "random") in found
    assert ("gaze", "nss", "contrastive", "baseline") in found and ("planes", "f1", "joint", "shuffled") in found
    assert ("probe", "f1", "video", "random") in found
    for evaluation, score, better, worse in found:
        table = {init: {"planes": row.planes, "gaze": row.gaze}.get(evaluation) for init, row in ROWS.items()}
        if table[better] and table[worse]:
            sign = -1 if score == "kl" else 1
            assert sign * (table[better][score][0] - table[worse][score][0]) > 0, (evaluation, score, better, worse)


def test_the_profiles_hold_what_they_should():
    for profile in ("quick", "paper"):
        settings = reproduce_profile(profile)
        assert settings.pretrain.profile == settings.planes.profile == settings.gaze.profile == profile
        assert settings.planes.model.video == settings.pretrain.model.video == settings.gaze.model.video
    assert reproduce_profile("paper").pretrain.optimiser == PretrainSettings().optimiser
    assert reproduce_profile("quick").pretrain.objective.order_fraction == 1.0
    evidence = reproduce_profile("quick", "evidence")
    assert evidence.pretrain.objective.order_fraction == 0.25 and evidence.pretrain.validation_fraction == 0.15
    assert (evidence.few_patients, evidence.ceiling_epochs, evidence.pretraining_fraction) == (2, 12, 0.6)


@pytest.mark.slow
def test_own_labels_take_the_place_of_planes(tmp_path, settings, stubbed):
    names = {1: "up", 3: "across", 9: "down"}
    store = write_store(tmp_path / "store", PATIENTS, own_labels=names)
    results = reproduce(store, tmp_path / "out", settings, seeds=[0]).results
    assert results["classes"] == ["across", "down", "up"] and results["title"] == "classification by 'stripes'"
    assert {name for name, _, _ in stubbed.measured} == {"classification"} and results["measured"]["probe"]["joint"]
    chosen = settings.model_copy(update={"planes": settings.planes.model_copy(update={"label_column": "stripes"})})
    text = str(reproduce(store, tmp_path / "chosen", chosen, seeds=[0]))
    assert "Table 1. Classification by 'stripes', fine-tuned" in text
    wrong = settings.model_copy(update={"planes": settings.planes.model_copy(update={"label_column": "view"})})
    with pytest.raises(ConfigError, match=r"expected one of the store's .*'stripes'.*, got 'view'"):
        reproduce(store, tmp_path / "wrong", wrong, seeds=[0])
