import dataclasses
import re

import pytest

from usvs.evaluation.embedding_spread import EmbeddingSpread
from usvs.evaluation.label_reading import F1Beside
from usvs.tasks.diagnosis.ceilings import Ceiling, Ceilings
from usvs.tasks.diagnosis.contents import ArchiveContents
from usvs.tasks.diagnosis.losses import LossMeasurement, LossReading, RunReading
from usvs.tasks.diagnosis.verdict import give_verdict

ENOUGH = ArchiveContents(
    patients=38,
    training_patients=23,
    scans=38,
    scans_with_sound=38,
    minutes=76.0,
    speech_minutes=65.0,
    clips=2280,
    pair_clips=2000,
    training_pair_clips=1300,
    pair_patients=38,
    batch_clips=32,
    steps=2000,
)
GOOD = Ceiling(F1Beside(0.6, 0.33, 0.2, 0.3), 0.3, ((1,),), 4000, 1500, 15, 300)
CHANCE = Ceiling(F1Beside(0.34, 0.33, -0.03, 0.04), 0.0, ((1,),), 4000, 1500, 15, 300)


def loss(name: str = "contrastive", train: float = 0.0, unseen: float | None = 0.0, half: float = 0.02) -> LossReading:
    """A loss that is so many nats below chance."""
    measured = [None if gain is None else LossMeasurement(4.8 - gain, 4.8, half, 8) for gain in (train, unseen)]
    return LossReading(name, *measured)


def run(*losses: LossReading, steps: int = 2000, rank: float = 12.0) -> RunReading:
    return RunReading(steps, losses, {}, {"video": EmbeddingSpread(rank, 0.9, 500)})


def ceilings(picture: Ceiling = GOOD, speech: Ceiling | None = GOOD) -> Ceilings:
    return Ceilings(("1", "2", "3"), picture, speech, 1.09, 0.3, 0.1)


@pytest.mark.parametrize(
    ("reading", "verdict"),
    [
        (loss(train=0.3, unseen=0.1), "learning"),
        (loss(train=0.3, unseen=0.01), "memorising"),
        (loss(train=0.0, unseen=-0.1), "not learning"),
        (loss(train=0.3, unseen=None), "not tested"),
        (loss(train=0.0, unseen=None), "not learning"),
        (loss(train=1e-4, unseen=1e-4, half=1e-6), "not learning"),  # collapsed: below chance by rounding
        (loss(train=0.3, unseen=0.05, half=float("nan")), "memorising"),  # one batch: 2 % of chance are asked for
        (loss(train=0.3, unseen=0.2, half=float("nan")), "learning"),
    ],
)
def test_a_verdict_for_each_loss(reading, verdict):
    assert reading.verdict == verdict


def too_certain(train: float = 0.3, unseen: float = -0.1, fitted: float = 0.06) -> LossReading:
    measured = LossMeasurement(4.8 - fitted, 4.8, 0.02, 8)
    return dataclasses.replace(loss(train=train, unseen=unseen), fitted=measured, temperatures=(0.4, 0.3))


@pytest.mark.parametrize(
    ("reading", "verdict"),
    [
        (too_certain(), "too certain"),
        (too_certain(fitted=0.005), "memorising"),
        (too_certain(train=0.0, fitted=-0.01), "not learning"),
        (too_certain(unseen=0.1, fitted=0.12), "learning"),
    ],
)
def test_a_match_that_is_only_too_certain_is_told_from_what_was_learnt_by_heart(reading, verdict):
    assert reading.verdict == verdict
    found = give_verdict(ENOUGH, run(reading), ceilings())
    assert ("too certain of it after 2000 steps: L_cont at the fitted temperature 0.3 and 0.4 4.740" in found.text) is (
        verdict == "too certain"
    )
    assert found.can_carry is (True if verdict in ("too certain", "learning") else None)


def test_a_match_from_speech_to_pictures_that_is_too_certain_is_not_called_silence():
    reverse = dataclasses.replace(too_certain(), name="reverse")
    found = give_verdict(ENOUGH, run(loss(train=0.3, unseen=0.1), reverse))
    assert "with too much certainty: L_cont (speech to video)" in found.text and "silence" not in found.text
    one_way = give_verdict(ENOUGH, run(too_certain(), loss("reverse", train=0.3, unseen=-0.1)))
    assert one_way.can_carry and "may have learnt to separate speech from silence" in one_way.text


def test_what_was_learnt_is_named():
    found = give_verdict(ENOUGH, run(loss(train=0.3, unseen=0.1), loss("order", 0.1, 0.0)), ceilings())
    assert found.can_carry and found.text.startswith("it learns: L_cont below chance on unseen patients")
    assert "only on training patients: L_ord" in found.text and "at most 0.30 nats" in found.text


def test_a_run_that_learns_is_never_said_to_be_impossible():
    assert give_verdict(ENOUGH, run(loss(train=0.3, unseen=0.1)), ceilings(CHANCE, CHANCE)).can_carry


@pytest.mark.parametrize(
    ("contents", "found", "reason"),
    [
        ({"scans_with_sound": 0}, None, "no scan has sound"),
        ({"pair_clips": 0, "speech_minutes": 0.2}, None, r"no clip has enough speech .*\(0.2 minutes"),
        ({"training_pair_clips": 20}, None, "only 20 clips of training patients .* fewer than the 32"),
        ({"training_patients": 1}, None, "one patient to train on"),
        ({}, ceilings(speech=CHANCE), "speech does not name what is visible: .* 0.34, chance 0.33"),
        ({}, ceilings(picture=CHANCE), "the pictures do not show the labels"),
        ({}, ceilings(speech=None), "no clip with enough speech shows two different labels"),
    ],
)
def test_what_an_archive_cannot_carry_and_why(contents, found, reason):
    for reading in (None, run(loss())):
        verdict = give_verdict(dataclasses.replace(ENOUGH, **contents), reading, found)
        assert verdict.can_carry is False and verdict.text.startswith("this archive cannot carry it, because")
        assert re.search(reason, verdict.text), verdict.text


@pytest.mark.parametrize(
    ("reading", "advice"),
    [
        (run(loss(train=0.3)), "it memorises: L_cont .* More patients"),
        (run(loss(), steps=60), "too few steps"),
        (run(loss(), rank=1.3), "video embeddings have collapsed .*rank 1.3.* profile quick or small"),
        (run(loss()), "Label some scans"),
        (run(loss(), loss("order", 0.3, 0.3)), "without any match of the streams: L_ord"),
        (run(loss(unseen=None)), "no unseen patient"),
        (run(loss("order", 0.3, 0.3)), "no loss that matches speech and pictures; L_ord below chance"),
    ],
)
def test_what_to_try_next(reading, advice):
    found = give_verdict(ENOUGH, reading)
    assert found.can_carry is None
    assert re.search(advice, found.text), found.text


def test_what_the_labels_allow_is_less_than_the_noise():
    little = dataclasses.replace(ceilings(), bound_nats=0.03)
    found = give_verdict(ENOUGH, run(loss(train=0.8, unseen=-0.3, half=0.06)), little)
    assert found.can_carry is False and "at most 0.03 nats" in found.text and "L_cont memorising" in found.text
    assert give_verdict(ENOUGH, run(loss(train=0.8, unseen=-0.3, half=0.02)), little).can_carry is None
    assert give_verdict(ENOUGH, run(loss(train=0.8, unseen=0.3, half=0.06)), little).can_carry
    assert give_verdict(ENOUGH, None, little).can_carry is None


def test_silence_is_no_match():
    silence = (loss("correspondence", 0.1, 0.1), loss("contrastive"), loss("reverse"))
    assert give_verdict(ENOUGH, run(*silence)).can_carry is None
    one_way = give_verdict(ENOUGH, run(loss(train=0.3, unseen=0.1), loss("reverse"))).text
    assert "separate speech from silence" in one_way
    both = give_verdict(ENOUGH, run(loss(train=0.3, unseen=0.1), loss("reverse", 0.3, 0.1))).text
    assert "silence" not in both
    assert "L_cls alone" in give_verdict(ENOUGH, run(silence[0])).text


def test_a_silent_archive_may_learn_the_order_of_frames():
    found = give_verdict(dataclasses.replace(ENOUGH, scans_with_sound=0), run(loss("order", 0.3, 0.3)))
    assert found.can_carry is None


def test_an_untried_archive_with_few_steps():
    assert "Use 5 times as many epochs" in give_verdict(dataclasses.replace(ENOUGH, steps=100)).text
    assert "too few" not in give_verdict(ENOUGH).text
