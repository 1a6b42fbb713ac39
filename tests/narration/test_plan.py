"""Scans of one patient show each clip before any again; joined scans show each class equally often."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from usvs.narration.labelled_videos import LabelledVideo
from usvs.narration.pictures import played_seconds
from usvs.narration.plan import folder_names, plan_scans
from usvs.narration.settings import NarrateSettings

VIDEOS = [
    LabelledVideo(f"{patient}/{topic}.mp4", Path(), topic, f"patient {patient}", exam="ab"[topic // 2])
    for patient in range(6)
    for topic in range(4)
    if topic != 3 or patient == 0  # class 3 is rare
]


def test_each_patient_has_a_scan_with_each_clip_once():
    plans = plan_scans(VIDEOS, 0, NarrateSettings())
    assert [plan.folder for plan in plans] == [f"patient_{patient}" for patient in range(6)]
    for plan in plans:
        files = [part.video.file for part in plan.played]
        own = [video.file for video in VIDEOS if video.patient.replace(" ", "_") == plan.folder]
        assert sorted(files) == sorted(own)
        for before, after in zip(plan.played[:-1], plan.played[1:], strict=True):
            assert before.stop == after.start
        assert all(4.7 < (part.stop - part.start) / 10 < 7.3 for part in plan.played)


def test_a_scan_of_stated_length_repeats_clips_in_rounds():
    for plan in plan_scans(VIDEOS, 0, NarrateSettings(scan_seconds=60.0, scans_per_patient=2)):
        assert plan.played[0].start == 0 and plan.played[-1].stop == 600
        assert (plan.played[-1].stop - plan.played[-1].start) >= 10
        shown = Counter(part.video.file for part in plan.played)
        assert max(shown.values()) - min(shown.values()) <= 1
        assert len({part.video.patient for part in plan.played}) == 1


def test_joined_scans_show_each_class_equally_often():
    plans = plan_scans(VIDEOS, 1, NarrateSettings(scans=12))
    assert len({plan.folder for plan in plans}) == 12
    shown = Counter(part.video.topic for plan in plans for part in plan.played)
    assert max(shown.values()) - min(shown.values()) <= 1
    files = Counter(part.video.file for plan in plans for part in plan.played if part.video.topic == 0)
    assert max(files.values()) - min(files.values()) <= 1 and len(files) == 6


def test_joined_scans_can_be_of_one_exam_each():
    plain = [LabelledVideo(**{**vars(video), "exam": ""}) for video in VIDEOS]
    mixed = plan_scans(plain, 1, NarrateSettings(scans=4))
    assert all(len({part.video.topic for part in plan.played}) == 4 for plan in mixed)
    apart = plan_scans(VIDEOS, 1, NarrateSettings(scans=12))
    assert Counter(plan.played[0].video.exam for plan in apart) == {"a": 6, "b": 6}
    assert all(len({part.video.exam for part in plan.played}) == 1 for plan in apart)


def test_another_seed_gives_other_scans_and_the_same_one_the_same():
    settings = NarrateSettings(scans=3)
    first, again, other = (plan_scans(VIDEOS, seed, settings) for seed in (1, 1, 2))
    assert first == again != other


def test_names_of_patients_become_separate_folders_inside_of_the_archive():
    names = folder_names(["a/b", "a b", "../x", "A_B", "..", "36", "Ä"])
    assert list(names.values()) == ["a_b", "a_b_2", "x", "A_B_3", "patient", "36", "Ä"]


def test_a_short_video_is_played_to_and_fro_and_a_long_one_in_part():
    seconds = played_seconds(60, 2.0, 0.25, 10)
    assert len(seconds) == 60 and seconds[0] == pytest.approx(1.0)
    assert seconds.max() == pytest.approx(2.0) and seconds.min() == pytest.approx(0.0)
    np.testing.assert_allclose(np.abs(np.diff(seconds)), 0.1)
    long = played_seconds(60, 30.0, 0.5, 10)
    assert long[0] == pytest.approx(12.0) and long[-1] == pytest.approx(17.9)
