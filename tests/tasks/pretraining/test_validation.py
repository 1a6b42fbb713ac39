import math

import pytest
import torch

from usvs.losses.settings import ObjectiveSettings
from usvs.tasks.pretraining.chance import with_chance
from usvs.tasks.pretraining.result import describe_metrics
from usvs.tasks.pretraining.validation import retrieval


def test_perfect_and_chance_retrieval():
    speech = torch.eye(8)[:, None].repeat(1, 2, 1)  # eight clips, two pools
    perfect = retrieval(speech, speech)
    assert perfect["pool_top1_speech_to_video"] == perfect["pool_top1_video_to_speech"] == 1.0
    assert perfect["pool_top1_speech_to_video_chance"] == 1 / 8
    collapsed = retrieval(torch.ones(8, 2, 4), torch.ones(8, 2, 4))
    assert collapsed["pool_top1_speech_to_video"] == 1 / 8


def test_the_two_directions_are_distinguished():
    video = torch.tensor([[1.0, 0.0], [0.9, 0.0], [0.0, 1.0]])[:, None]
    speech = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])[:, None]
    values = retrieval(video, speech)  # both of the first two frames are nearest to the second piece of speech
    assert values["pool_top1_video_to_speech"] == pytest.approx(2 / 3)
    assert values["pool_top1_speech_to_video"] == pytest.approx(2 / 3)
    values = retrieval(video, speech + torch.tensor([0.0, 3.0]))
    assert values["pool_top1_speech_to_video"] == pytest.approx(1 / 3)
    assert values["pool_top1_video_to_speech"] == pytest.approx(2 / 3)


def test_pools_are_apart():
    video = torch.eye(4)[:, None].repeat(1, 2, 1)
    speech = video.clone()
    speech[:, 1] = speech[:, 1].roll(1, 0)  # the second pool is all wrong
    assert retrieval(video, speech)["pool_top1_speech_to_video"] == 0.5


def test_one_pair_is_no_pool():
    assert retrieval(torch.ones(1, 2, 4), torch.ones(1, 2, 4)) == {}


def values(**changes) -> dict[str, float]:
    known = dict.fromkeys(("total", "correspondence", "contrastive", "order", "order_accuracy", "retrieval_top1"), 1.0)
    return known | {"valid_pairs": 4.0, "chance_contrastive": 2.4, "retrieval_chance": 0.25} | changes


def test_only_what_was_measured_is_recorded_each_beside_its_chance():
    both = with_chance(values(), ObjectiveSettings())
    assert both["correspondence_chance"] == math.log(2) and both["order_chance"] == math.log(12)
    assert both["contrastive_chance"] == 2.4 and both["retrieval_top1_chance"] == 0.25
    assert "chance_contrastive" not in both
    no_pairs = with_chance(values(valid_pairs=0.0), ObjectiveSettings())
    assert set(no_pairs) == {"total", "order", "order_chance", "order_accuracy", "order_accuracy_chance", "valid_pairs"}
    no_order = with_chance(values(), ObjectiveSettings(order_weight=0, contrastive_weight=0))
    assert set(no_order) == {"total", "correspondence", "correspondence_chance", "valid_pairs"}


def test_the_line_for_a_person():
    line = describe_metrics({"correspondence": 0.5, "correspondence_chance": math.log(2), "margin_mean": 3.0})
    assert line == "L_cls 0.500 (chance 0.693)"


def test_the_values_of_an_own_loss_are_kept():
    assert with_chance({"total": 1.0, "mine": 2.0}, ObjectiveSettings()) == {"total": 1.0, "mine": 2.0}
