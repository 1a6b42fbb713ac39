import json
import math

import matplotlib.image
import numpy as np
import pytest
import torch

from tests.support.labelled_stores import STORE_ID
from usvs.data.gaze_table import gaze_density, gaze_frames
from usvs.data.settings import AugmentSettings
from usvs.errors import DataError
from usvs.evaluation.folds import make_folds
from usvs.models.se_resnext import SEResNeXt
from usvs.report import runs
from usvs.report.plots import save_figure
from usvs.report.runs import save_gaze_figure
from usvs.report.stored_results import read_examples
from usvs.store.prepared import PreparedStore
from usvs.tasks.finetune import finetune
from usvs.tasks.fit import evaluate_module, fit_module
from usvs.tasks.saliency.module import SaliencyModule
from usvs.tasks.saliency.settings import SaliencySettings
from usvs.tasks.saliency.task import SaliencyTask, density_scores

TASK = SaliencyTask()


def metrics(density, table):
    return TASK.metrics(density_scores(density, table), table)


@pytest.fixture(scope="module")
def settings(tiny_planes) -> SaliencySettings:
    shared = {name: getattr(tiny_planes, name) for name in ("profile", "model", "optimiser", "run")}
    return SaliencySettings(
        **shared,
        augment=AugmentSettings(),
        temporal_stride=1,
        window_seconds=0.0,
        head_width=8,
        folds=2,
    )


def test_the_loss_is_kl_and_leaves_out_who_was_not_looked_at(settings):
    torch.manual_seed(0)
    task = SaliencyModule(SEResNeXt(settings.model.video), 8, 0.0, 0.0).eval()
    frames, truth = torch.randn(3, 1, 32, 32), torch.rand(3, 32, 32)
    truth /= truth.sum(dim=(1, 2), keepdim=True)
    truth[2] = 0
    loss = task(frames, truth)
    log_p = task.log_density(frames[:2]).detach()
    assert log_p.exp().sum(dim=(1, 2)) == pytest.approx([1, 1], abs=1e-4)
    expected = torch.nn.functional.kl_div(log_p, truth[:2], reduction="sum") / 2
    torch.testing.assert_close(loss.total.detach(), expected)
    none = task(frames, torch.zeros(3, 32, 32))
    assert none.total.item() == 0 and math.isfinite(none.nss.item())


def test_the_options_of_the_loss_reward_nss_and_cc(settings):
    torch.manual_seed(0)
    encoder = SEResNeXt(settings.model.video)
    plain, with_both = SaliencyModule(encoder, 8, 0.0, 0.0).eval(), SaliencyModule(encoder, 8, 0.1, 0.2).eval()
    with_both.load_state_dict(plain.state_dict())
    frames, truth = torch.randn(2, 1, 32, 32), torch.rand(2, 32, 32)
    truth /= truth.sum(dim=(1, 2), keepdim=True)
    one, other = plain(frames, truth), with_both(frames, truth)
    torch.testing.assert_close(other.total, one.total - 0.1 * one.nss - 0.2 * one.correlation)
    from usvs.evaluation import correlation

    density = plain.log_density(frames).exp().detach()
    assert one.correlation.item() == pytest.approx(correlation(density, truth).mean().item(), abs=1e-4)


@pytest.mark.slow
def test_it_learns_to_look_where_people_looked(gaze_store, settings):
    store = PreparedStore(gaze_store)
    table = gaze_frames(store, settings.temporal_stride, settings.window_seconds, settings.sigma_degrees)
    fold = make_folds(table.frames.group.tolist(), 2, seed=0)[0]
    longer = settings.model_copy(update={"optimiser": settings.optimiser.model_copy(update={"epochs": 12})})
    torch.manual_seed(1)
    encoder = SEResNeXt(settings.model.video)
    module, updates = fit_module(TASK, store, table.of_groups(fold.train), encoder, longer)
    test = TASK.test_dataset(store, table.of_groups(fold.test), longer)
    scores = evaluate_module(TASK, store, test, module, longer)
    uniform = metrics(torch.ones(len(test), 32, 32), test)
    assert updates > 0
    assert scores.kl < 0.6 * uniform.kl and scores.nss > 2 and scores.auc_exact > 0.9 and scores.cc > 0.4
    assert uniform.nss == 0 and uniform.auc_exact == 0.5 and uniform.auc == pytest.approx(0.75)


def test_a_perfect_prediction_scores_as_it_should(gaze_store, settings):
    store = PreparedStore(gaze_store)
    table = TASK.test_dataset(
        store, gaze_frames(store, settings.temporal_stride, settings.window_seconds, settings.sigma_degrees), settings
    )
    truth = gaze_density(table.fixations, table.sigma, 32, 32)
    scores = metrics(truth, table)
    assert scores.kl == pytest.approx(0, abs=1e-5) and scores.cc == pytest.approx(1) and scores.sim == pytest.approx(1)
    assert scores.fixations == 1 and scores.auc_exact > 0.99


@pytest.mark.slow
def test_inits_are_compared_and_drawn(gaze_store, tmp_path, settings, monkeypatch):
    quick = settings.model_copy(update={"optimiser": settings.optimiser.model_copy(update={"epochs": 1})})
    run = tmp_path / "run"
    table = str(finetune("gaze", gaze_store, run, quick))
    stored = json.loads((run / "results.json").read_text())
    evaluation = stored["inits"]["random"]["finetune"]
    assert stored["kind"] == "gaze" and len(evaluation["folds"]) == 2
    for score in ("kl", "nss", "auc", "cc", "sim", "auc_exact"):
        values = [fold[score] for fold in evaluation["folds"]]
        assert evaluation[score]["mean"] == pytest.approx(np.mean(values))
        assert evaluation[score]["std"] == pytest.approx(np.std(values, ddof=1))
    assert "AUC-Judd of chance is 0.75, not 0.5" in table
    assert str(gaze_store) not in (run / "results.json").read_text()
    examples, figures = read_examples(run / "examples.npz"), []
    monkeypatch.setattr(runs, "save_figure", lambda figure, file: figures.append(figure) or save_figure(figure, file))
    pixels = matplotlib.image.imread(save_gaze_figure(run))[..., :3]
    assert (np.ptp(pixels, axis=2) > 0.2).mean() > 0.05  # coloured maps; an empty figure is white
    for column, name in enumerate(("frames", "truth", "predicted_random")):
        drawn = figures[0].axes[column].images[-1].get_array()
        assert np.ptp(drawn) > 0 and np.array_equal(drawn, examples[name][0])
    assert (run / "models" / "random" / "fold_1" / "model.safetensors").exists()


def test_pretraining_patients_are_refused_unless_typed(gaze_store, tmp_path, settings, monkeypatch):
    from usvs.tasks import initial_encoder as inits

    monkeypatch.setattr(inits, "load_encoder", lambda path: SEResNeXt(settings.model.video))
    seen = "9a7000000002"
    (tmp_path / "joint").mkdir()
    content = {"store": STORE_ID, "trained": [seen], "validation": []}
    (tmp_path / "joint" / "patients.json").write_text(json.dumps(content))
    quick = settings.model_copy(update={"optimiser": settings.optimiser.model_copy(update={"epochs": 1})})
    with pytest.raises(DataError, match=f"1 of 4 test patients were pretrained on \\({seen}\\)"):
        finetune("gaze", gaze_store, tmp_path / "run", quick, inits=tmp_path / "joint")
    assert not (tmp_path / "run").exists()
    result = finetune("gaze", gaze_store, tmp_path / "run", quick, inits=tmp_path / "joint", allow_overlap=True)
    assert len(result.result_for("joint").folds) == 2


def test_a_constant_map_has_a_finite_gradient(settings):
    module = SaliencyModule(SEResNeXt(settings.model.video), 8, 0.0, 0.0)
    for parameter in module.head.parameters():
        torch.nn.init.zeros_(parameter)
    truth = torch.rand(2, 32, 32)
    module(torch.randn(2, 1, 32, 32), truth / truth.sum(dim=(1, 2), keepdim=True)).total.backward()
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
