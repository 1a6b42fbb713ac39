import numpy as np
import pytest

from usvs.evaluation.label_reading import confusion_nats, f1_beside_chance, label_entropy_nats, shared_nats
from usvs.evaluation.metrics import classification_metrics

CHANNEL = np.array([[80, 10, 10], [10, 80, 10], [10, 10, 80]])


def test_macro_f1_is_that_of_the_metrics():
    random = np.random.default_rng(0)
    truth, predicted, patient = random.integers(0, 4, 300), random.integers(0, 3, 300), random.integers(0, 9, 300)
    counts = np.zeros((9, 5, 5), int)
    np.add.at(counts, (patient, truth, predicted), 1)
    expected = classification_metrics(truth, predicted, [str(i) for i in range(5)]).f1
    assert f1_beside_chance(counts).f1 == pytest.approx(expected)


def test_a_constant_prediction_of_unequal_labels_is_at_chance():
    counts = np.zeros((12, 2, 2))
    counts[:, 0, 0], counts[:, 1, 0] = 90, 10
    found = f1_beside_chance(counts)
    assert found.f1 == pytest.approx(found.chance) and not found.above_chance  # 0.47: above a fair draw


def test_one_good_patient_is_not_above_chance_and_all_are():
    one = np.full((12, 3, 3), 10)
    one[0] = 3 * CHANNEL
    assert not f1_beside_chance(one).above_chance
    assert f1_beside_chance(np.repeat(CHANNEL[None], 12, axis=0)).above_chance
    assert not f1_beside_chance(CHANNEL[None]).above_chance  # of one patient nothing is known of others


def test_information():
    perfect = 1000 * np.eye(4)
    assert confusion_nats(perfect) == pytest.approx(np.log(4), abs=2e-3)
    assert confusion_nats(np.full((4, 4), 50)) == 0.0
    assert label_entropy_nats(perfect) == pytest.approx(np.log(4))
    assert label_entropy_nats([[5, 5], [0, 0]]) == 0.0


def test_noise_of_few_samples_is_no_information():
    random = np.random.default_rng(1)
    found = [confusion_nats(np.histogram2d(*random.integers(0, 4, (2, 200)), bins=4)[0]) for _ in range(200)]
    assert np.mean(found) < 0.012  # 0.023 without the correction


def test_two_readings_share_less_than_either_has():
    assert 0 < shared_nats(CHANNEL, CHANNEL) < confusion_nats(100 * CHANNEL)
    assert shared_nats(CHANNEL, 100 * np.eye(3)) == pytest.approx(confusion_nats(1000 * CHANNEL), abs=1e-3)
    assert shared_nats(CHANNEL, np.full((3, 3), 7)) == pytest.approx(0.0, abs=1e-12)
