"""The report of a fine-tuning, complete or not: its numbers are those of results.json."""

import json
import shutil

import numpy as np
import pytest

from tests.support.report_reader import read_report, section, table_values
from usvs.errors import DataError
from usvs.report.html import save_report

CLASSES = ["heart", "lung <b>", "knee"]
CONFUSION = {0: [[8, 1, 1], [0, 5, 5], [2, 0, 8]], 1: [[6, 2, 2], [1, 9, 0], [0, 0, 0]]}


def fold(number, f1):
    scores = {"precision": f1 + 0.01, "recall": f1 - 0.01, "f1": f1, "accuracy": f1}
    patients = {"train_patients": ["aaa", "bbb"], "test_patients": [f"{number}cc"]}
    frames = {"train_frames": 20, "test_frames": 30}
    return {"fold": number, **patients, **frames, **scores, "confusion": CONFUSION[number]}


MEASURED = {("random", "finetune"): (0.3, 0.5), ("own", "finetune"): (0.6, 0.8), ("own", "probe"): (0.4, 0.41)}


@pytest.fixture
def planned(tmp_path):
    """A folder in which two of six measurements are stored."""
    plan = {
        "task": {"kind": "classification", "name": "classification", "title": "findings", "classes": CLASSES},
        "settings": {"profile": "quick", "folds": 2},
        "inits": {"random": "", "own": ""},
        "protocols": ["finetune", "probe"],
        "store": "0123456789abcdef",
        "folds": [{"train": ["aaa", "bbb"], "test": [f"{number}cc"]} for number in range(2)],
    }
    run = tmp_path / "run"
    (run / "results").mkdir(parents=True)
    (run / "finetune.json").write_text(json.dumps(plan))
    for number, f1 in enumerate(MEASURED["random", "finetune"]):
        (run / "results" / f"finetune_random_fold_{number}.json").write_text(json.dumps(fold(number, f1)))
    return run


@pytest.fixture
def complete(planned):
    inits = {}
    for (init, protocol), values in MEASURED.items():
        inits.setdefault(init, {})[protocol] = {"folds": [fold(n, value) for n, value in enumerate(values)]}
    results = {"kind": "classification", "title": "findings", "classes": CLASSES, "chance_f1": 0.33, "best_init": "own"}
    environment = {"environment": {"python": "3"}, "settings": {"folds": 2}, "pretraining_overlap": {"own": "disjoint"}}
    (planned / "results.json").write_text(json.dumps({**results, **environment, "inits": inits}))
    shutil.rmtree(planned / "results")
    plan = json.loads((planned / "finetune.json").read_text())
    (planned / "finetune.json").write_text(json.dumps(plan | {"protocols": ["finetune"]}))
    return planned


def test_scores_are_those_of_the_results(complete):
    page = read_report(save_report(complete))
    columns, rows = table_values(section(page, "scores").all("table")[0])
    assert columns[:4] == ["init and protocol", "precision", "recall", "F1"]
    for (init, protocol), values in MEASURED.items():
        title = {"finetune": "fine-tuned", "probe": "linear probe"}[protocol]
        assert rows[f"{init}, {title}"][2] == pytest.approx(np.mean(values))
    dots = [float(node.attributes["data-value"]) for node in section(page, "scores").all("circle")]
    assert sorted(dots) == sorted(value for values in MEASURED.values() for value in values)
    assert "own' reaches macro F1 70.0 ± 14.1 %" in page.text
    assert "by 30.0 points, in 2 of 2 folds" in page.text


def test_the_confusion_is_the_sum_over_folds(complete):
    page = read_report(save_report(complete))
    matrix = section(page, "confusion").all("table")[0]
    columns, rows = table_values(matrix)
    assert columns[: len(CLASSES)] == CLASSES  # the headings, then the names of the rows
    total = np.sum(list(CONFUSION.values()), axis=0)
    assert rows == dict(zip(CLASSES, total.tolist(), strict=True))
    percents = [cell.text for cell in matrix.all("tbody")[0].all("tr")[0].all("td")]
    assert percents == ["70", "15", "15"]


def test_class_scores_are_of_all_frames(complete):
    page = read_report(save_report(complete))
    _, rows = table_values(section(page, "scores").all("table")[1])
    assert rows["heart"][:2] == pytest.approx([14 / 17, 14 / 20])


def test_an_unfinished_run_shows_what_is_measured(planned):
    page = read_report(save_report(planned))
    assert "2 of 8 measurements are done" in page.text
    assert section(page, "scores").all("table") and section(page, "confusion").all("table")


def test_a_run_that_has_just_begun_says_so(planned):
    shutil.rmtree(planned / "results")
    page = read_report(save_report(planned))
    assert "No fold is measured yet" in page.text


@pytest.mark.parametrize("name", ["results.json", "finetune.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b'{"inits": 3}', b"\xff\x00"])
def test_a_damaged_file_does_not_hide_the_other(complete, name, content):
    (complete / name).write_bytes(content)
    if name == "results.json":
        assert len(read_report(save_report(complete)).all("section")) >= 6
    else:
        page = read_report(save_report(complete))
        assert section(page, "scores").all("table")


def test_of_gaze_the_smaller_divergence_is_ahead_and_equal_ones_are_not(tmp_path):
    values = {"random": (2.0, 2.0, 3.0), "own": (1.0, 2.0, 2.5)}
    inits = {name: {"finetune": {"folds": [{"kl": kl} for kl in of_init]}} for name, of_init in values.items()}
    results = {"kind": "gaze", "uniform": {"kl": 3.0}, "best_init": "own", "inits": inits, "settings": {}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "finetune.json").write_text(json.dumps({"task": {"kind": "saliency"}, "folds": []}))
    assert "by 0.50, in 2 of 3 folds" in read_report(save_report(tmp_path)).text


def test_saliency_examples_are_overlays(tmp_path):
    folds = [
        {"fold": n, "kl": 2.0 + n / 10, "nss": 1.0, "auc": 0.9, "cc": 0.4, "sim": 0.3, "auc_exact": 0.8} for n in (0, 1)
    ]
    inits = {"random": {"finetune": {"folds": folds}}}
    results = {"kind": "gaze", "uniform": {"kl": 3.0}, "best_init": "random", "inits": inits, "settings": {}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "finetune.json").write_text(json.dumps({"task": {"kind": "saliency"}, "folds": []}))
    maps = np.random.default_rng(0).random((3, 8, 8))
    np.savez(tmp_path / "examples.npz", frames=maps, truth=maps, predicted_random=maps)
    page = read_report(save_report(tmp_path))
    saliency = section(page, "saliency")
    assert [cell.text for cell in saliency.all("th")] == ["frame", "ground truth", "random"]
    assert len(saliency.all("img")) == 9 and all(image.attributes["alt"] for image in saliency.all("img"))
    assert "KL 2.05 ± 0.07" in page.text and "uniform map 3.00" in page.text


def test_a_folder_of_an_experiment_is_refused(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match="expected a folder of"):
        save_report(tmp_path)


def write_scores(run, **values):
    """Replace the F1 of inits in a complete run."""
    results = json.loads((run / "results.json").read_text())
    for init, f1 in values.items():
        results["inits"][init]["finetune"]["folds"] = [fold(number, value) for number, value in enumerate(f1)]
    (run / "results.json").write_text(json.dumps(results))


def test_a_verdict_near_chance_says_so_and_its_interval_stays_within_the_scale(complete):
    write_scores(complete, own=(0.1, 0.6), random=(0.1, 0.6))
    page = read_report(save_report(complete))
    assert "That is not clearly better than guessing" in page.text
    assert "by less than the last digit, in 0 of 2 folds" in page.text
    assert "0.0 to 100.0 %" in page.text and "-" not in section(page, "scores").text.replace("fine-tuned", "")


def test_a_verdict_far_above_chance_does_not(complete):
    write_scores(complete, own=(0.90, 0.91))
    assert "better than guessing" not in read_report(save_report(complete)).text
