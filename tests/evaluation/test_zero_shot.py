"""Scores of a zero-shot classifier: from embeddings whose classes are known."""

import numpy as np
import pytest

from usvs.evaluation.voice_naming import WAYS, naming_accuracy
from usvs.evaluation.zero_shot import (
    class_scores,
    combine_voices,
    search_precision,
    standardise_scores,
    top_k_accuracy,
)

CLASSES, WIDTH = 5, 16


@pytest.fixture(scope="module")
def world():
    """Frames around five directions, and their classes in six voices, three of which the run does not understand."""
    random = np.random.default_rng(0)
    directions = np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))[0][:CLASSES]
    labels = np.arange(600) % CLASSES
    frames = 0.8 * directions[labels] + 0.1 * random.normal(size=(600, WIDTH)) + 0.1 * random.normal(size=WIDTH)
    accents = 2.0 * random.normal(size=(6, WIDTH))
    spoken = accents + np.stack([directions + 0.1 * random.normal(size=(CLASSES, WIDTH))] * 6, axis=1)
    spoken[:, 3:] = accents[3:] + 0.2 * random.normal(size=(CLASSES, 3, WIDTH))
    unit = frames / np.linalg.norm(frames, axis=1, keepdims=True)
    return unit.astype(np.float32), spoken.astype(np.float32), labels


def test_a_voice_that_is_not_understood_counts_little(world):
    frames, spoken, labels = world
    weighted = top_k_accuracy(class_scores(frames, combine_voices(spoken)), labels, 1)
    equal = top_k_accuracy(class_scores(frames, spoken.mean(axis=1)), labels, 1)
    assert weighted > 0.95 and weighted >= equal
    raw = search_precision(frames, spoken.mean(axis=1), labels, 50)
    assert search_precision(frames, combine_voices(spoken), labels, 50) > 0.95 > raw
    alone = combine_voices(spoken[:, 3:])
    assert np.linalg.norm(alone) < 0.6 * np.linalg.norm(combine_voices(spoken[:, :3]))


def test_what_a_voice_adds_to_every_class_does_not_matter(world):
    _, spoken, _ = world
    np.testing.assert_allclose(combine_voices(spoken), combine_voices(spoken + 7.0), atol=1e-4)


def test_what_all_frames_have_in_common_does_not_matter_after_standardising(world):
    frames, spoken, labels = world
    moved = frames + 3.0 * np.random.default_rng(3).normal(size=WIDTH)
    prompts = combine_voices(spoken)
    scores = class_scores(moved, prompts, moved.mean(axis=0))
    assert top_k_accuracy(standardise_scores(scores, scores), labels, 1) > 0.95
    assert top_k_accuracy(class_scores(moved, prompts), labels, 1) < 0.5


def test_a_class_that_scores_high_everywhere_is_not_named_more_often_after_standardising():
    scores = np.random.default_rng(1).normal(size=(1000, 3)) + np.array([0.0, 5.0, 0.0])
    assert np.bincount(scores.argmax(axis=1), minlength=3)[1] > 950
    assert np.bincount(standardise_scores(scores, scores).argmax(axis=1)).max() < 400


def test_equal_scores_are_no_success():
    assert top_k_accuracy(np.zeros((10, 4)), np.zeros(10, int), 3) == 0.0
    assert top_k_accuracy(np.zeros((10, 4)), np.zeros(10, int), 4) == 1.0
    assert top_k_accuracy([[3.0, 2.0, 1.0]] * 3, [0, 1, 2], 2) == pytest.approx(2 / 3)


def test_search_precision_of_known_frames():
    frames = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    assert search_precision(frames, np.eye(3), [0, 0, 1, 1, 2, 2], 20) == 1.0
    assert search_precision(frames, np.eye(3)[[1, 2, 0]], [0, 0, 1, 1, 2, 2], 20) == 0.0


def test_every_way_is_reported_and_shuffled_labels_are_at_chance(world):
    frames, spoken, labels = world
    scan, seconds = np.repeat(np.arange(6), 100), np.tile(np.arange(100) * 10.0, 6)
    found = naming_accuracy(frames, spoken, labels, scan, seconds, scan)
    assert list(found) == list(WAYS)
    best = found["classifier"]
    assert (
        best["top1"] > 0.95 and best["top1_low"] <= best["top1"] <= best["top1_high"] and best["top3"] >= best["top1"]
    )
    assert found["one_voice"]["top1_least"] < 0.5 < found["one_voice"]["top1_most"]
    wrong = naming_accuracy(frames, spoken, np.random.default_rng(2).permutation(labels), scan, seconds, scan)
    assert abs(wrong["classifier"]["top1"] - 1 / CLASSES) < 0.06
