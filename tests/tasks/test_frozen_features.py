import copy

import numpy as np
import pytest
import torch

from usvs.archive.labels import STANDARD_PLANES
from usvs.errors import DataError
from usvs.evaluation.metrics import classification_metrics
from usvs.evaluation.probe import probe_predict
from usvs.models.se_resnext import SEResNeXt
from usvs.tasks.frozen_features import frozen_features, needs_calibration


def probe(train, labels, test, ground_truth):
    return classification_metrics(
        ground_truth, probe_predict(train, labels, test, len(STANDARD_PLANES)), STANDARD_PLANES
    )


def features(random, planes, distance):
    centres = np.random.default_rng(7).normal(size=(14, 12)) * distance
    return (centres[planes] + random.normal(size=(len(planes), 12))).astype(np.float32)


@pytest.mark.parametrize(("distance", "low", "high"), [(5.0, 0.99, 1.0), (0.0, 0.0, 0.13)])
def test_separable_features_are_read_and_noise_is_at_chance(distance, low, high):
    random = np.random.default_rng(0)
    train, test = random.integers(0, 14, 600), random.integers(0, 14, 1500)
    scores = probe(features(random, train, distance), train, features(random, test, distance), test)
    assert low <= scores.f1 <= high


def test_rare_planes_are_not_given_up():
    random = np.random.default_rng(0)
    train, test = (random.choice(2, n, p=[0.97, 0.03]) for n in (2000, 4000))
    scores = probe(features(random, train, 0.4), train, features(random, test, 0.4), test)
    assert scores.classes[1].recall > 0.6


def test_one_plane_is_nothing_to_read():
    with pytest.raises(DataError, match="at least two classes"):
        probe_predict(np.zeros((4, 2), np.float32), np.ones(4), np.zeros((4, 2), np.float32), 14)


@pytest.mark.parametrize(
    ("random_init", "calibrate", "expected"),
    [
        (True, "random", True),
        (False, "random", False),
        (True, "always", True),
        (False, "always", True),
        (True, "never", False),
        (False, "never", False),
    ],
)
def test_who_is_calibrated(random_init, calibrate, expected):
    assert needs_calibration(random_init, calibrate) is expected


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_probe_leaves_the_encoder_as_it_was(halves, tiny_planes, calibrated):
    store, train, test = halves
    torch.manual_seed(0)
    encoder = SEResNeXt(tiny_planes.model.video)
    before = copy.deepcopy(encoder.state_dict())
    frozen_features(store, encoder, train, test, 32, tiny_planes.augment, calibrated)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert encoder.training


def test_calibration_changes_the_reading_and_uses_training_frames_only(halves, tiny_planes):
    store, train, test = halves
    torch.manual_seed(0)
    encoder = SEResNeXt(tiny_planes.model.video)
    # Statistics as another domain's training would have left them: the features hardly vary.
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.fill_(30.0)

    def read(tested, calibrated):
        of_train, of_test = frozen_features(store, encoder, train, tested, 32, tiny_planes.augment, calibrated)
        return probe(of_train, train.label, of_test, tested.label)

    assert read(test, True).f1 > read(test, False).f1 + 0.1
    some = test.take(np.arange(0, len(test), 2))
    everything = np.array(read(test, True).confusion)
    assert (np.array(read(some, True).confusion) <= everything).all()
