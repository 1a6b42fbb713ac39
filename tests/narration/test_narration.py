"""The narration agrees with its ground truth, and does not depend on what was synthesized before."""

import hashlib
import subprocess
import sys
import time

import numpy as np
import pytest

from usvs.archive.labels import BACKGROUND, STANDARD_PLANES
from usvs.errors import MissingDependencyError
from usvs.narration.lexicon import CHATTER as REMARKS
from usvs.narration.narration import CHATTER, SILENCE, Narration, narrate
from usvs.narration.voice import ACCENTS, SPEAKERS, Speakers, Voice, draw_voice
from usvs.phantom.lexicon import LEXICON, TERMS
from usvs.phantom.scan import PhantomScan
from usvs.phantom.settings import PhantomSettings
from usvs.utils.seeds import stream


@pytest.fixture(scope="module")
def scans():
    made = [PhantomScan(4, patient, 1, PhantomSettings(scan_seconds=60.0)) for patient in (1, 2, 3, 4)]
    return [(scan, scan.sounds()) for scan in made]


@pytest.mark.slow
def test_energy_lies_where_the_truth_says_speech(scans):
    for _, sounds in scans:
        speech = sounds.narration.speech
        clean = (sounds.narration.sound.reshape(-1, 480).astype(np.float64) ** 2).mean(axis=1)
        assert clean[speech].sum() > 0.99 * clean.sum()  # with a delay of 0.1 s it would be below 0.9
        power = (sounds.recorded.reshape(-1, 480).astype(np.float64) ** 2).mean(axis=1)  # how much louder: the room's
        quiet = np.median(power[~speech])  # clicks are loud, but rare
        assert np.median(power[speech]) > 5 * quiet
        assert np.mean(power[speech] > 2 * quiet) > 0.75
        assert power[speech].mean() > 20 * quiet
        silent = np.repeat(sounds.narration.topic == SILENCE, 480)
        assert np.mean(sounds.narration.sound[silent] != 0) < 0.03  # ends of remarks that fall between two ticks


@pytest.mark.slow
def test_shares_of_speech_are_as_the_method_needs(scans):
    topics, planes, low = [], [], []
    for scan, sounds in scans:
        seconds = np.arange(len(sounds.narration.topic)) / 100
        planes.append(scan.planes()[(seconds * scan.rate_hz).astype(int)])
        topics.append(sounds.narration.topic)
        low.append(sounds.narration.speech.reshape(-1, 200).mean(axis=1) < 0.5)
    topic, plane = np.concatenate(topics), np.concatenate(planes)
    dwell = plane != BACKGROUND
    spoken = topic[dwell] >= 0
    assert 0.4 < np.mean(topic[dwell] == plane[dwell]) < 0.8
    assert 0.05 < np.mean(topic[dwell] == CHATTER) < 0.3
    assert 0.8 < np.mean(topic[dwell][spoken] == plane[dwell][spoken]) < 1.0  # late and early remarks make the rest
    assert 0.1 < np.mean(np.concatenate(low)) < 0.4


def test_a_scan_sounds_the_same_whatever_was_spoken_before():
    scan = PhantomScan(1, 2, 1, PhantomSettings(scan_seconds=8.0))
    first = scan.sounds()
    with Speakers([draw_voice(9, 9)]) as other:
        other.synthesize("something else entirely")
    again = scan.sounds()
    np.testing.assert_array_equal(first.recorded, again.recorded)
    np.testing.assert_array_equal(first.narration.topic, again.narration.topic)


SPEAK = """
import zlib
from usvs.narration.voice import Speakers, Voice
with Speakers([Voice("en+f2", 160, 50, 50)]) as speaker:
    print(zlib.crc32(speaker.synthesize("is this your first one").tobytes()))
"""


@pytest.mark.slow
def test_a_breathy_voice_is_the_same_in_every_process_at_every_time():
    checksums = set()
    for _ in range(2):
        checksums.add(subprocess.run([sys.executable, "-c", SPEAK], capture_output=True, check=True, text=True).stdout)
        time.sleep(1.1)  # espeak-ng would seed its breath from the time in seconds
    assert len(checksums) == 1


def test_every_voice_can_be_loaded_and_differs():
    lengths = set()
    for number in range(max(len(ACCENTS), len(SPEAKERS))):
        name = f"{ACCENTS[number % len(ACCENTS)]}+{SPEAKERS[number % len(SPEAKERS)]}"
        with Speakers([Voice(name, 160, 50, 50)]) as speaker:
            lengths.add(len(speaker.synthesize("femur length")))
    assert len(lengths) > 8


def test_a_long_data_path_is_shortened(monkeypatch, tmp_path):
    from usvs.narration import voice

    library, data = voice.espeak_paths()
    folder = tmp_path / ("long" * 30) / ("path" * 30)
    folder.mkdir(parents=True)
    (folder / "espeak-ng-data").symlink_to(data)
    monkeypatch.setattr(voice, "espeak_paths", lambda: (library, str(folder / "espeak-ng-data")))
    with Speakers([draw_voice(0, 0)]) as speaker:
        assert len(speaker.synthesize("femur")) > 1000


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    from usvs.narration.voice import espeak_paths

    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingDependencyError, match=r"'espeakng-loader' is missing: pip install 'usvs\[phantom\]'"):
        espeak_paths()


def test_each_plane_has_terms_of_its_own():
    assert set(TERMS) == set(STANDARD_PLANES) - {"background"}
    terms = [term for own in TERMS.values() for term in own]
    assert len(terms) == len(set(terms))
    for plane, own in TERMS.items():
        remarks = [LEXICON.on_topic(stream(0, "remarks", number), STANDARD_PLANES.index(plane)) for number in range(20)]
        assert all(any(term in remark for term in own) for remark in remarks)
        assert len(set(remarks)) > 8
        assert not any(term in remark for term in own for remark in REMARKS)


class Recorder:
    """Replaces the voices and records which of them speaks."""

    rate_hz = 22_050

    def __init__(self, count: int):
        self.voices = (draw_voice(0, 0),) * count
        self.turns: list[int] = []
        self.texts: list[str] = []

    def synthesize(self, text: str, speaker: int = 0) -> np.ndarray:
        self.turns.append(speaker)
        self.texts.append(text)
        return np.full(22_050, 0.1, np.float32)


def narrate_with(recorder: Recorder, scan: PhantomScan, rng: np.random.Generator) -> Narration:
    settings = scan.settings
    return narrate(rng, recorder, scan.shown(), LEXICON, scan.pace(), settings.scan_seconds, settings.sound_rate_hz)


def test_a_phantom_says_the_same_as_before_narration_was_a_package_of_its_own():
    digest = hashlib.sha256()
    for changes in ({}, {"chatter_fraction": 0.3, "idle_fraction": 0.4}):
        recorder = Recorder(3)
        scan = PhantomScan(5, 1, 1, PhantomSettings(scan_seconds=60.0, **changes))
        narration = narrate_with(recorder, scan, stream(5, "narration"))
        turns = zip(recorder.turns, recorder.texts, strict=True)
        digest.update("\n".join(f"{speaker} {text}" for speaker, text in turns).encode())
        digest.update(narration.topic.tobytes())
    assert digest.hexdigest() == "436d8a9572c48394d97618277a43e19992835315024018daee79ba7637ac9af8"  # of 375ef63


def test_the_remarks_of_the_ground_truth_are_those_that_are_spoken():
    recorder = Recorder(3)
    scan = PhantomScan(5, 1, 1, PhantomSettings(scan_seconds=30.0))
    narration = narrate_with(recorder, scan, stream(5, "narration"))
    assert [remark.text for remark in narration.remarks] == recorder.texts
    assert [remark.speaker for remark in narration.remarks] == recorder.turns
    for remark in narration.remarks:
        spoken = narration.topic[round(remark.start * 100) : round(remark.stop * 100)]
        assert (spoken == remark.topic).all() and len(spoken)


def test_every_scan_is_narrated_by_all_voices_so_that_a_voice_tells_nothing_about_it():
    settings = PhantomSettings(scan_seconds=60.0)
    fractions = []
    for patient in range(1, 7):
        recorder = Recorder(3)
        narrate_with(recorder, PhantomScan(0, patient, 1, settings), stream(0, "narration", patient))
        fractions.append(np.bincount(recorder.turns, minlength=3) / len(recorder.turns))
    assert np.min(fractions) > 0.1
    assert np.mean(fractions, axis=0) == pytest.approx(np.full(3, 1 / 3), abs=0.1)


def test_the_voices_differ_within_one_scan():
    with Speakers([draw_voice(0, number) for number in range(3)]) as speakers:
        lengths = {len(speakers.synthesize("femur length", number)) for number in range(3)}
    assert len(lengths) == 3
