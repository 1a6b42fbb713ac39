"""Several processes give the results of one. They are forked by `ranks.py`, all jobs of a test from one process."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.compare import relative, run_jobs
from tests.training.drift import CLIPS, REORDERED, SPLITS, STEPS, as_published, write_batches
from usvs.training.checkpoint import load_checkpoint, step_folders
from usvs.training.metrics_log import read_metrics

pytestmark = pytest.mark.slow

AFTER, LAST = [1, 2, 5], 10  # steps, of float32; drift.py measures more


def write_labelled_batches(planes: Path, gaze: Path) -> None:
    labels, gazes = {}, {}
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        frames = torch.randn(CLIPS, 1, 32, 32, generator=generator)
        truth = torch.rand(CLIPS, 32, 32, generator=generator)
        truth[[1, 4]] = 0  # no fixations; two of four ranks have no other rows
        labels |= {f"{step}.0": frames, f"{step}.1": torch.randint(0, 3, (CLIPS,), generator=generator)}
        gazes |= {f"{step}.0": frames.clone(), f"{step}.1": truth / truth.sum(dim=(1, 2), keepdim=True).clamp(min=1)}
    save_file(labels, planes)
    save_file(gazes, gaze)


def changed(settings, path: Path, **optimiser) -> str:
    """Write settings with another optimiser; dropout stays on."""
    path.write_text(
        settings.model_copy(update={"optimiser": settings.optimiser.model_copy(update=optimiser)}).model_dump_json()
    )
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("ranks")
    write_batches(folder / "batches")
    write_labelled_batches(folder / "planes", folder / "gaze")
    eager, scripted = tiny(run={"compile": "eager"}), tiny(run={"compile": "torchscript"})
    normalised = eager.model.model_copy(update={"projection_batch_norm": True, "correspondence_batch_norm": True})
    settings = {
        "double": changed(eager.model_copy(update={"model": normalised}), folder / "double.json"),
        "single": as_published(eager, folder / "single.json"),
        "scripted": as_published(scripted, folder / "scripted.json"),
        "frozen": changed(eager, folder / "frozen.json", batch_norm="frozen"),
        "per_rank": changed(eager, folder / "per_rank.json", batch_norm="per_rank"),
    }

    def job(kind: str, split: list[list[int]], name: str, **more) -> dict:
        common = {"call": "train", "batches": str(folder / "batches"), "settings": settings[kind]}
        return {**common, "ranks": len(split), "split": split, "out": str(folder / name), **more}

    jobs = [job("double", SPLITS[n], f"double{n}", double=True, steps=8) for n in (1, 4)]
    for task in ("planes", "gaze"):
        more = {"task": task, "batches": str(folder / task), "double": True, "steps": 5}
        jobs += [job("double", SPLITS[n], f"{task}{n}", **more) for n in (1, 4)]
    jobs += [job("single", SPLITS[n], f"single{n}", steps=LAST, also_after=AFTER) for n in SPLITS]
    jobs += [job("single", REORDERED, "reordered", steps=LAST, also_after=AFTER)]
    jobs += [job("scripted", SPLITS[2], "scripted2", steps=3)]
    jobs += [job("frozen", SPLITS[n], f"frozen{n}", double=True, steps=3) for n in (1, 4)]
    jobs += [job("per_rank", SPLITS[4], "per_rank4", double=True, steps=3)]
    codes, log = run_jobs(folder, jobs)
    assert all(code == 0 for job in codes for code in job), log
    return folder


@pytest.mark.parametrize(("task", "ranks"), [("double", 4), ("planes", 4), ("gaze", 4)])
def test_any_number_of_ranks_gives_the_same_weights_and_losses(trained, task, ranks):
    one, many = load_file(trained / f"{task}1"), load_file(trained / f"{task}{ranks}")
    assert one.keys() == many.keys()
    assert relative(one, many) < 1e-9
    torch.testing.assert_close(many["history"], one["history"], rtol=1e-6, atol=1e-6)  # reported in float32


@pytest.mark.parametrize("ranks", [2, 4])
def test_in_float32_ranks_agree_to_a_millionth_or_as_well_as_float32_does(trained, ranks):
    for steps in [*AFTER, LAST]:
        ends = [name if steps == LAST else f"{name}.{steps}" for name in ("single1", f"single{ranks}", "reordered")]
        one, many, reordered = (load_file(trained / end) for end in ends)
        # Rounding grows by a third a step; where it has passed a millionth there is no more exact answer in float32.
        assert 0 < relative(one, many, False) < max(1e-6, 3 * relative(one, reordered, False)), steps
    torch.testing.assert_close(many["history"][0], one["history"][0], rtol=1e-3, atol=1e-5)


def test_per_rank_statistics_are_others(trained):
    one, other = load_file(trained / "double1")["history"], load_file(trained / "per_rank4")["history"]
    assert (one[:3] - other).abs().max() > 1e-3


def test_frozen_statistics_stay_and_agree(trained):
    one, many = load_file(trained / "frozen1"), load_file(trained / "frozen4")
    assert relative(one, many) < 1e-9
    assert torch.equal(one["streams.video.bn1.running_mean"], torch.zeros(8, dtype=torch.float64))


def test_scripted_ranks_equal_eager_ones(trained):
    eager, scripted = load_file(trained / "single2"), load_file(trained / "scripted2")
    assert torch.equal(eager["history"][:3], scripted["history"])


def test_the_objectives_gradient_is_the_single_process_ones_for_uneven_splits(tmp_path, tiny):
    generator = torch.Generator().manual_seed(0)
    width, rows = 8, 23
    outputs = {n: torch.randn(rows, width, generator=generator) for n in ("video", "positive", "negative")}
    outputs |= {n: torch.randn(rows, 2, generator=generator) for n in ("positive_logits", "negative_logits")}
    outputs["pair_valid"] = torch.rand(rows, generator=generator) < 0.7
    outputs["order_logits"] = torch.randn(rows, 12, generator=generator)
    outputs["order_class"] = torch.randint(0, 12, (rows,), generator=generator)
    save_file(outputs, tmp_path / "outputs")
    objectives = [{}, {"form": "eq2", "normalise": False}, {"candidates": "speech"}]
    splits = [[rows], [20, 3], [5, 0, 18], [1, 13, 2, 7]]
    jobs = []
    for number, objective in enumerate(objectives):
        settings = changed(tiny(objective=objective), tmp_path / f"{number}.json")
        common = {"call": "embedding_gradients", "settings": settings, "embeddings": str(tmp_path / "outputs")}
        jobs += [{**common, "ranks": len(s), "split": s, "out": str(tmp_path / f"{number}-{len(s)}")} for s in splits]
    codes, printed = run_jobs(tmp_path, jobs)
    assert not any(code for job in codes for code in job), printed
    for number in range(len(objectives)):
        one = load_file(tmp_path / f"{number}-1.0")
        assert {"video", "positive", "negative", "positive_logits", "order_logits"} <= one.keys()
        for split in splits[1:]:
            parts = [load_file(tmp_path / f"{number}-{len(split)}.{rank}") for rank in range(len(split))]
            for name, complete in one.items():
                many = parts[0][name] if name == "losses" else torch.cat([part[name] for part in parts])
                assert float((many - complete).abs().max()) <= 1e-6 * float(complete.abs().max()), (number, split, name)


def test_a_run_of_three_processes_stops_resumes_with_two_and_ends_like_one(tmp_path, noise_store, tiny):
    settings = changed(tiny(run={"compile": "eager"}), tmp_path / "s.json", kind="sgd", learning_rate=1e-3)
    common = {"call": "run_pretraining", "store": str(noise_store), "settings": settings}
    codes, log = run_jobs(
        tmp_path,
        [
            {**common, "ranks": 1, "run": str(tmp_path / "one")},
            {**common, "ranks": 3, "run": str(tmp_path / "three"), "sigterm_after": 4},
            {**common, "ranks": 2, "run": str(tmp_path / "three")},
            {**common, "ranks": 2, "run": str(tmp_path / "three"), "resume": True},
            {**common, "ranks": 7, "run": str(tmp_path / "seven")},
            {**common, "ranks": 2, "run": str(tmp_path / "poisoned"), "poison_after": 3},
        ],
    )
    assert codes == [[0], [75] * 3, [2] * 2, [0, 0], [2] * 7, [3, 3]], log
    assert "is not empty" in log and "another process received a signal to stop: stopped after step 4 of 6" in log
    assert "7 processes for batches of 6 clips" in log
    ends = [load_checkpoint(step_folders(tmp_path / run / "checkpoints")[-1]).model for run in ("one", "three")]
    assert relative(*ends) < 1e-5  # float32, as above
    assert "step 3: the loss is nan" in log and "clips of the batch: [" in log
    assert step_folders(tmp_path / "poisoned" / "checkpoints")[-1].name == "step_00000003"
    one, three = (read_metrics(tmp_path / run) for run in ("one", "three"))
    assert [(r["step"], r["split"]) for r in one] == [(r["step"], r["split"]) for r in three]
    for first, second in zip(one, three, strict=True):
        for name in ("total", "valid_pairs", "contrastive", "contrastive_chance", "retrieval_top1_chance"):
            if name in first:
                assert first[name] == pytest.approx(second[name], rel=1e-4), name
    assert json.loads((tmp_path / "three" / "environment.json").read_text())["processes"] == 2
