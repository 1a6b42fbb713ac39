"""Narration of a scan: remarks, their times, and their ground truth."""

import logging
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from usvs.archive.labels import BACKGROUND, STANDARD_PLANES
from usvs.phantom.lexicon import off_topic, on_topic
from usvs.phantom.script import Segment
from usvs.phantom.seeds import between
from usvs.phantom.settings import PhantomSettings
from usvs.phantom.voice import Speakers

logger = logging.getLogger(__name__)

GROUND_TRUTH_HZ = 100
SILENCE = -1
CHATTER = -2
MIN_AUDIBLE_FRACTION = 0.03  # of the remark's loudest 10 ms; quieter 10 ms are a pause


@dataclass(frozen=True)
class Narration:
    """Clean speech and its ground truth.

    Attributes:
        sound: [samples] at `rate_hz`.
        rate_hz: of the sound.
        speech: [n] at 100 Hz: whether there is audible speech.
        topic: [n] at 100 Hz: index of the plane spoken of, including pauses in a remark; -1 silence, -2 another topic.
    """

    sound: NDArray[np.float32]
    rate_hz: int
    speech: NDArray[np.bool_]
    topic: NDArray[np.int16]


@dataclass(frozen=True)
class _Window:
    plane: int
    start: float
    stop: float


def narrate(
    rng: np.random.Generator, speakers: Speakers, script: list[Segment], settings: PhantomSettings
) -> Narration:
    """Synthesize the narration of a scan, spoken by all sonographers of the archive in random turns.

    If each scan had a voice of its own, a network could match speech and video by recognising the scan, which is easier
    than recognising anatomy and useless for new patients.

    Args:
        rng: stream of the scan's narration.
        speakers: the opened voices.
        script: planes on the screen.
        settings: fractions of speech and of other topics, delays.
    """
    ticks = round(settings.scan_seconds * GROUND_TRUTH_HZ)
    sound = np.zeros(round(settings.scan_seconds * settings.sound_rate_hz), np.float32)
    speech, topic = np.zeros(ticks, np.bool_), np.full(ticks, SILENCE, np.int16)
    clock = 0.0
    for window in _windows(rng, script, settings):
        clock = max(clock, window.start)
        while clock < min(window.stop, settings.scan_seconds) - 0.3:
            about = CHATTER if window.plane == BACKGROUND or rng.random() < settings.chatter_fraction else window.plane
            text = off_topic(rng) if about == CHATTER else on_topic(rng, STANDARD_PLANES[about])
            spoken = speakers.synthesize(text, int(rng.integers(len(speakers.voices))))
            remark = soxr.resample(spoken, speakers.rate_hz, settings.sound_rate_hz, quality="MQ")
            first = round(clock * settings.sound_rate_hz)
            remark = remark[: len(sound) - first]
            sound[first : first + len(remark)] += remark * 10 ** (rng.normal(0, 1.5) / 20)
            audible = _find_audible(remark, settings.sound_rate_hz)
            tick = round(clock * GROUND_TRUTH_HZ)
            audible = audible[: ticks - tick]
            speech[tick : tick + len(audible)] |= audible
            topic[tick : tick + len(audible)] = about
            clock += len(remark) / settings.sound_rate_hz + float(rng.gamma(2.0, 0.1)) + 0.06
    return Narration(sound, settings.sound_rate_hz, speech, topic)


def _windows(rng: np.random.Generator, script: list[Segment], settings: PhantomSettings) -> list[_Window]:
    """Return the times at which each segment is commented, with random delays against the screen."""
    windows = []
    for segment in script:
        start, stop = segment.start / settings.frame_rate_hz, segment.stop / settings.frame_rate_hz
        fraction = settings.idle_fraction if segment.plane == BACKGROUND else settings.spoken_fraction
        if rng.random() >= fraction:
            continue
        if segment.plane != BACKGROUND:
            start, stop = start + between(rng, settings.delay_seconds), stop + between(rng, settings.delay_seconds)
        windows.append(_Window(segment.plane, max(start, 0.0), stop))
    return windows


def _find_audible(remark: NDArray[np.float32], rate_hz: int) -> NDArray[np.bool_]:
    hop = rate_hz // GROUND_TRUTH_HZ
    level = np.sqrt(np.mean(remark[: len(remark) // hop * hop].reshape(-1, hop) ** 2, axis=1))
    return np.asarray(level > MIN_AUDIBLE_FRACTION * level.max(initial=0.0), np.bool_)
