"""The report of a pretraining run: its numbers are those of metrics.jsonl, of whatever state the folder is in."""

import json
import shutil

import numpy as np
import pytest

from tests.support.pretraining_stores import noise_store, tiny_settings
from tests.support.report_reader import drawn_values, read_report, section, table_values
from usvs.errors import ConfigError, DataError
from usvs.report import callback
from usvs.report.callback import ReportCallback
from usvs.report.html import save_report
from usvs.report.pretraining_page import pretraining_page
from usvs.report.pretraining_samples import SAMPLES, embedding_places, read_samples
from usvs.report.retrieval import own_ranks
from usvs.store.catalogue import Catalogue
from usvs.store.tables import CatalogueWriter
from usvs.tasks.pretraining.pretrain import pretrain

__all__ = ["noise_store"]


@pytest.fixture(scope="module")
def trained(noise_store, tmp_path_factory):
    """A run of a few steps with a report that was measured with its store."""
    run = tmp_path_factory.mktemp("report") / "run"
    kept = ReportCallback(run)
    result = pretrain(noise_store, run, tiny_settings(), callbacks=[kept])
    assert (run / "report.html").exists()  # of the validations
    save_report(run, store=noise_store, reading=result.reading, verdict=result.verdict)
    return run, result


@pytest.fixture
def run(trained, tmp_path):
    """A copy of its folder."""
    shutil.copytree(trained[0], tmp_path / "run")
    return tmp_path / "run"


def records(run, split):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["split"] == split]


@pytest.mark.parametrize(("split", "title"), [("validation", "unseen"), ("train", "training")])
def test_the_tables_have_the_values_of_metrics_jsonl(trained, split, title):
    page = read_report(trained[0] / "report.html")
    found = next(table for table in section(page, "losses").all("table") if title in table.all("caption")[0].text)
    columns, rows = table_values(found)
    written = records(trained[0], split)
    assert list(rows) == [str(record["step"]) for record in written]
    names = {"L_cls": "correspondence", "L_cont": "contrastive", "L_ord": "order", "total loss (weighted sum)": "total"}
    for title_of, name in names.items():
        place = columns.index(title_of) - 1
        assert [row[place] for row in rows.values()] == [record.get(name) for record in written]


def test_the_lines_are_drawn_at_the_values_of_metrics_jsonl(trained):
    page = read_report(trained[0] / "report.html")
    charts = {
        figure.all("figcaption")[0].text: figure.all("svg")[0] for figure in section(page, "losses").all("figure")
    }
    for title, name in {"L_cls": "correspondence", "L_cont": "contrastive", "order accuracy": "order_accuracy"}.items():
        for split, series in (("train", "training"), ("validation", "unseen")):
            written = [record for record in records(trained[0], split) if name in record]
            x, y = drawn_values(charts[title], series)
            assert x == pytest.approx([record["step"] for record in written], abs=0.05)
            assert y == pytest.approx([record[name] for record in written], abs=0.005)
            _, chance = drawn_values(charts[title], f"chance of {series}")
            assert chance == pytest.approx([record[f"{name}_chance"] for record in written], abs=0.005)


def test_the_verdict_of_the_diagnosis_is_first(trained):
    run, result = trained
    page = read_report(run / "report.html")
    verdict = next(node for node in page.all("div") if "verdict" in node.attributes.get("class", ""))
    said = verdict.text.lower().replace(" ", "")
    assert said == str(result.verdict).lower().replace(" ", "")


def test_retrieval_marks_the_own_clip_both_ways_and_gives_its_rank(trained):
    samples = read_samples(trained[0])
    assert samples is not None and len(samples) > 1
    assert samples.description["patients"] == "unseen"
    page = read_report(trained[0] / "report.html")
    queries = [node for node in section(page, "retrieval").all("div") if node.attributes.get("class") == "query"]
    own = [[node for node in query.all("li") if node.attributes.get("class") == "own"] for query in queries]
    assert queries and all(len(marked) == 1 and "own clip" in marked[0].text for marked in own)
    ranks = own_ranks(samples.speech @ samples.video.T)
    shown = [int(marked[0].text.split()[1].rstrip(",")) for marked in own[: len(own) // 2]]
    asked = np.linspace(0, len(ranks) - 1, len(shown)).round().astype(int)
    assert shown == ranks[asked].tolist()


def test_a_map_of_few_embeddings_is_not_drawn_and_of_equal_ones_is():
    assert not len(embedding_places(np.ones((4, 3), np.float32)))
    assert np.isfinite(embedding_places(np.ones((20, 3), np.float32))).all()
    assert not len(embedding_places(np.full((20, 3), np.nan, np.float32)))


@pytest.mark.parametrize(
    "torn", [b'{"step": 4, "spl', b"\0\0\0\0", b'{"step": 4, "split": "train", "total": 1.0, \xff']
)
def test_a_torn_last_line_is_left_out_and_said(run, torn):
    whole = read_report(run / "report.html")
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    page = read_report(save_report(run))
    assert "1 line of metrics.jsonl was incomplete" in section(page, "losses").text
    assert len(section(page, "losses").all("tr")) == len(section(whole, "losses").all("tr"))


FILES = ("metrics.jsonl", "config.json", "environment.json", "patients.json", "model.json", "checkpoints", SAMPLES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "empty", "damaged"])
def test_a_report_is_made_of_whatever_is_there(run, name, how):
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if how != "missing" and name != "checkpoints":
        path.write_bytes(b"" if how == "empty" else b'[1, {"a": \xff\x00 nonsense')
    page = read_report(save_report(run))
    assert len(page.all("section")) >= 6
    if name != "metrics.jsonl":
        assert section(page, "losses").all("svg")


def test_a_run_without_any_record_says_so(run):
    (run / "metrics.jsonl").unlink()
    (run / SAMPLES).unlink()
    page = read_report(save_report(run))
    assert "There is no record yet" in page.text


def test_values_that_are_no_numbers_are_drawn_as_gaps(run):
    lines = [
        {"step": n, "split": "train", "contrastive": v, "contrastive_chance": 4.0} for n, v in ((1, 4.0), (2, 3.0))
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "metrics.jsonl").write_text(
        text + '{"step": 3, "split": "train", "contrastive": NaN, "contrastive_chance": 4}\n'
    )
    page = read_report(save_report(run))
    x, y = drawn_values(section(page, "losses").all("figure")[0].all("svg")[0], "training")
    assert len(x) == 2 and y == pytest.approx([4.0, 3.0], abs=0.01)


@pytest.mark.parametrize("value", ["high", None, [1], {"a": 1}])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_values_of_another_type_are_left_out(run, value, split):
    good = {"step": 1, "split": "train", "order": 2.0, "order_chance": 2.5, "step_seconds": 0.1}
    bad = {"step": 2, "split": split, "contrastive": value, "contrastive_chance": 4.0, "step_seconds": value}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (good, bad)))
    (run / SAMPLES).unlink()
    page = read_report(save_report(run))
    assert section(page, "training").all("svg") and section(page, "settings").all("table")


@pytest.mark.parametrize("value", [1e308, -1e308, 10**400, 1e-320, float("inf")], ids=range(5))
def test_values_out_of_range_do_not_hide_the_others(run, value):
    lines = [
        {"step": n, "split": "train", "order": v, "order_chance": 2.5} for n, v in ((1, 2.0), (2, value), (3, -value))
    ]
    good = {"step": 4, "split": "validation", "contrastive": 2.0, "contrastive_chance": 2.5, "learning_rate": 0.1}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (*lines, good)))
    page = read_report(save_report(run))
    assert section(page, "settings").all("table")
    assert "unseen patients" in page.all("dl")[0].text


@pytest.mark.parametrize("step", ["5", None, float("nan"), float("inf"), [], 1e400, True])
def test_records_without_a_step_are_left_out(run, step):
    good = {"step": 1, "split": "train", "order": 2.0, "order_chance": 2.5}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (good, good | {"step": step})))
    page = read_report(save_report(run))
    x, _ = drawn_values(section(page, "losses").all("svg")[-1], "training")
    assert len(x) == 1


@pytest.mark.parametrize("value", ["text", None, 3, [1, 2], {"seed": [], "batch_clips": "many"}])
@pytest.mark.parametrize("name", ["run", "optimiser", "profile"])
def test_settings_of_another_shape_are_shown_as_they_are(run, name, value):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {name: value}))
    page = read_report(save_report(run))
    assert section(page, "losses").all("svg") and section(page, "settings").all("table")


def test_many_records_are_thinned_and_said(run):
    with (run / "metrics.jsonl").open("w") as file:
        for n in range(3000):
            file.write(json.dumps({"step": n + 1, "split": "train", "order": 2.0, "order_chance": 2.5}) + "\n")
    file = save_report(run)
    page = read_report(file)
    x, _ = drawn_values(section(page, "losses").all("svg")[-1], "training")
    assert len(x) == 500 and x[-1] == pytest.approx(3000, abs=1)
    assert "Of 3,000 records, 500 evenly spaced ones are drawn" in section(page, "losses").text


def test_while_a_run_is_going_on_the_state_is_shown_and_the_total(run):
    (run / SAMPLES).unlink()
    page = pretraining_page(run, total_steps=1000)
    assert "of 1,000; the run is not finished" in " ".join(page.verdict)
    assert "On unseen patients after step" in " ".join(page.verdict)


def test_no_name_of_the_store_is_in_the_report(run, noise_store):
    text = (run / "report.html").read_text()
    assert str(noise_store) not in text and str(run) not in text and ".mp4" not in text
    assert (run / "report.html").stat().st_mode & 0o777 == 0o600
    assert (run / SAMPLES).stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_scans_without_a_sector_have_no_pictures(noise_store, trained, tmp_path):
    run, store = tmp_path / "run", tmp_path / "store"
    shutil.copytree(trained[0], run)
    shutil.copytree(noise_store, store)
    catalogue = Catalogue.load(store)
    unseen = json.loads((run / "patients.json").read_text())["validation"]
    fractions = catalogue.clips["speech_fraction"].to_numpy().reshape(len(catalogue.scans), -1).copy()
    with CatalogueWriter(store / "catalogue", catalogue.clip_settings) as writer:
        for row, own in zip(catalogue.scans.to_pylist(), fractions, strict=True):
            source = "whole" if row["patient_key"] in unseen else "found"
            writer.add(row | {"sector_source": source}, own)
        writer.publish()
    save_report(run, store=store, reading=trained[1].reading, verdict=trained[1].verdict)
    samples = read_samples(run)
    shown = {clip["patient"] for clip in samples.description["clips"]}
    assert shown and not shown & set(unseen)
    assert samples.description["patients"] == "training"
    assert "clips of training patients" in section(read_report(run / "report.html"), "retrieval").text


def test_a_callback_that_fails_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    def fail(*arguments):
        raise RuntimeError("no ink")

    monkeypatch.setattr(callback, "pretraining_page", fail)
    kept = ReportCallback(tmp_path)
    for step in (1, 2):
        kept.on_validation(step, {})
    assert caplog.text.count("no ink") == 1  # and is not tried again


def test_a_slow_report_is_left_for_the_end(run, monkeypatch, caplog):
    monkeypatch.setattr(callback, "MAX_SECONDS", -1.0)
    kept = ReportCallback(run)
    kept.on_validation(1, {})
    (run / "report.html").unlink()
    kept.on_validation(2, {})
    assert not (run / "report.html").exists() and "written at the end" in caplog.text


def test_wrong_arguments_are_refused_before_anything_is_written(run, noise_store, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="expected a folder of 'usvs pretrain'"):
        save_report(tmp_path / "nothing")
    with pytest.raises(DataError, match="no such folder"):
        save_report(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="--labels: expected --store"):
        save_report(run, labels="labels.csv")
    with pytest.raises(ConfigError, match="--out: expected a file"):
        save_report(run, out=tmp_path)
    with pytest.raises(ConfigError, match="expected no --store"):
        save_report(noise_store, store=noise_store)
    assert not list((tmp_path / "nothing").iterdir())


def test_the_store_of_another_run_is_refused(run, noise_store, tmp_path):
    patients = json.loads((run / "patients.json").read_text())
    (run / "patients.json").write_text(json.dumps(patients | {"store": "f" * 16}))
    before = (run / "report.html").read_bytes()
    with pytest.raises(DataError, match="pretrained on store"):
        save_report(run, store=noise_store)
    assert (run / "report.html").read_bytes() == before


def test_with_a_store_but_no_checkpoint_yet_the_report_is_of_the_records(run, noise_store, caplog):
    shutil.rmtree(run / "checkpoints")
    (run / SAMPLES).unlink()
    page = read_report(save_report(run, store=noise_store))
    assert section(page, "losses").all("svg") and "no checkpoint yet" in caplog.text
