"""L_cont of unseen patients at a temperature that other batches chose."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from usvs.losses.settings import ObjectiveSettings
from usvs.store.prepared import PreparedStore
from usvs.tasks.diagnosis.losses import SOFTER, fit_temperature, read_run
from usvs.tasks.pretraining.module import PretrainModel
from usvs.tasks.pretraining.validation import Measurements, Validation
from usvs.training.trainer import Trainer

OBJECTIVE = ObjectiveSettings(form="ntxent", normalise=True, symmetric=False, temperature=0.2)


def records(*gains):
    """One batch for each gain in nats below a chance of 4.8."""
    return [{"contrastive": 4.8 - gain, "chance_contrastive": 4.8, "valid_pairs": 10.0} for gain in gains]


def fitted(*by_temperature):
    first, *softer = (records(*gains) for gains in by_temperature)
    measured = Measurements(first, torch.empty(0), torch.empty(0), tuple(softer))
    validation = SimpleNamespace(objective=OBJECTIVE)
    return fit_temperature([0.2, 0.4, 0.6][: 1 + len(softer)], measured, validation)


def test_each_half_is_measured_at_the_temperature_of_the_other():
    # even batches are best at 0.6, odd ones at 0.4
    found, temperatures = fitted((-0.5, -0.5, -0.5, -0.5), (0.1, 0.4, 0.1, 0.4), (0.3, 0.2, 0.3, 0.2))["contrastive"]
    assert temperatures == (0.4, 0.6)
    assert found.gain_nats == pytest.approx((0.1 + 0.1 + 0.2 + 0.2) / 4) and found.batches == 4


def test_noise_gains_nothing_by_the_choice():
    # the best of five on the same batches would be above chance by 1.2 deviations
    random = np.random.default_rng(0)
    gains = []
    for _ in range(200):
        noise = random.normal(0, 0.1, (3, 8))
        gains.append(fitted(*noise)["contrastive"][0].gain_nats)
    assert abs(np.mean(gains)) < 0.01


@pytest.mark.parametrize("by_temperature", [((0.1, 0.2),), ((0.1,), (0.2,))])
def test_one_temperature_or_one_batch_fits_nothing(by_temperature):
    assert fitted(*by_temperature) == {}


@pytest.fixture
def store(noise_store):
    return PreparedStore(noise_store)


@pytest.fixture
def measured(tiny):
    def of(**objective):
        settings = tiny()
        settings = settings.model_copy(update={"objective": settings.objective.model_copy(update=objective)})
        torch.manual_seed(0)
        model = PretrainModel(settings)
        trainer = Trainer(model, settings.optimiser, settings.run.model_copy(update={"compile": "eager"}), 1, 1)
        return model, trainer, settings

    return of


def test_only_the_temperature_differs(store, measured):
    model, trainer, settings = measured(form="ntxent", normalise=True, temperature=0.2)
    validation = Validation(store, store.clips, settings, 4)
    found = validation.measure(model, trainer, [0.6])
    assert model.objective.temperature == 0.2
    model.objective.temperature = 0.6
    assert found.softer[0] == validation.measure(model, trainer).records
    assert found.softer[0][0]["contrastive"] != found.records[0]["contrastive"]


@pytest.mark.parametrize(
    ("objective", "there"),
    [({"form": "ntxent", "normalise": True}, True), ({"form": "eq2", "normalise": True}, False)],
)
def test_a_run_is_read_at_softer_temperatures_where_its_loss_is_nt_xent(store, measured, objective, there):
    model, trainer, settings = measured(**objective)
    none = store.clips.select(np.zeros(len(store.clips), np.bool_))
    reading = read_run(model, trainer, store, settings, none, store.clips, 0)
    by_name = {loss.name: loss for loss in reading.losses}
    assert (by_name["contrastive"].fitted is not None) is there and by_name["order"].fitted is None
    if there:
        allowed = [settings.objective.temperature * factor for factor in (1.0, *SOFTER)]
        assert set(by_name["contrastive"].temperatures) <= set(allowed)
