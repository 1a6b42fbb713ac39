import numpy as np
import pytest

from usvs.errors import DataError
from usvs.evaluation.metrics import Spread, chance_f1, classification_metrics

NAMES = ("heart", "femur", "brain", "spine")


def test_scores_equal_those_computed_by_hand():
    truth = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 2, 2])
    scores = classification_metrics(truth, predicted, NAMES)
    # heart: P 2/2, R 2/3, F 4/5; femur: P 1/2, R 1/2, F 1/2; brain: P 1/2, R 1/1, F 2/3
    assert scores.precision == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert scores.recall == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert scores.f1 == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.left_out == ("spine",)
    assert scores.confusion.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_macro_f1_is_the_mean_of_class_f1_not_the_f1_of_the_means():
    scores = classification_metrics(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), NAMES)
    of_the_means = 2 * scores.precision * scores.recall / (scores.precision + scores.recall)
    assert scores.f1 == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert abs(scores.f1 - of_the_means) > 0.01


def test_a_class_only_predicted_counts_zero_and_a_class_only_true_counts_zero():
    scores = classification_metrics(np.array([0, 0, 3]), np.array([0, 1, 0]), NAMES)
    by_name = {score.name: score for score in scores.classes}
    assert set(by_name) == {"heart", "femur", "spine"}
    assert (by_name["femur"].f1, by_name["femur"].frames) == (0.0, 0)
    assert (by_name["spine"].f1, by_name["spine"].frames) == (0.0, 1)
    assert scores.f1 == pytest.approx(0.5 / 3)
    assert scores.left_out == ("brain",)


@pytest.mark.parametrize(
    ("truth", "predicted"), [([], []), ([0, 1], [0]), ([0, 4], [0, 0]), ([0, 0], [0, -1])], ids=str
)
def test_what_cannot_be_scored_is_refused(truth, predicted):
    with pytest.raises(DataError, match="scores: expected"):
        classification_metrics(np.array(truth), np.array(predicted), NAMES)


def test_spread_is_the_sample_standard_deviation():
    spread = Spread.of([0.6, 0.7, 0.8])
    assert (spread.mean, spread.std) == (pytest.approx(0.7), pytest.approx(0.1))
    assert str(spread) == "70.0 ± 10.0"
    assert Spread.of([0.5]).std == 0.0


def test_chance_is_what_a_fair_draw_scores():
    truth = np.repeat(np.arange(4), [7000, 2000, 900, 100])
    drawn = np.random.default_rng(0).integers(0, 4, (20, len(truth)))
    measured = np.mean([classification_metrics(truth, draw, NAMES).f1 for draw in drawn])
    assert chance_f1(truth, 4) == pytest.approx(measured, abs=0.003)
