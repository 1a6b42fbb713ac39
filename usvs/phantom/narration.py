"""What is said during a scan, when, and the truth about it."""

import logging
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from usvs.archive.plane_labels import BACKGROUND, PLANES
from usvs.phantom.lexicon import off_topic, on_topic
from usvs.phantom.script import Segment
from usvs.phantom.seeds import between
from usvs.phantom.settings import PhantomSettings
from usvs.phantom.voice import Speakers

logger = logging.getLogger(__name__)

TRUTH_HZ = 100
SILENCE = -1
CHATTER = -2
AUDIBLE = 0.03  # share of the remark's loudest 10 ms below which a moment counts as a pause


@dataclass(frozen=True)
class Narration:
    """The clean speech and its truth.

    Attributes:
        sound: [samples] at `rate_hz`.
        rate_hz: of the sound.
        speech: [n] at 100 Hz: somebody is heard.
        topic: [n] at 100 Hz: the plane spoken of, pauses within a remark included; -1 nothing, -2 other things.
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
    """Speak a scan's narration: the archive's sonographers are all in the room and remark in turn.

    Were a voice one scan's own, telling scans apart by voice and by picture would be an easier way to match the two
    than anatomy is, and one that helps with nobody new.

    Args:
        rng: the scan's stream for it.
        speakers: the opened voices.
        script: what is on the screen.
        settings: shares of speech and of chatter, delays.
    """
    ticks = round(settings.scan_seconds * TRUTH_HZ)
    sound = np.zeros(round(settings.scan_seconds * settings.sound_rate_hz), np.float32)
    speech, topic = np.zeros(ticks, np.bool_), np.full(ticks, SILENCE, np.int16)
    clock = 0.0
    for window in _windows(rng, script, settings):
        clock = max(clock, window.start)
        while clock < min(window.stop, settings.scan_seconds) - 0.3:
            about = CHATTER if window.plane == BACKGROUND or rng.random() < settings.chatter_share else window.plane
            text = off_topic(rng) if about == CHATTER else on_topic(rng, PLANES[about])
            spoken = speakers.synthesize(text, int(rng.integers(len(speakers.voices))))
            remark = soxr.resample(spoken, speakers.rate_hz, settings.sound_rate_hz, quality="MQ")
            first = round(clock * settings.sound_rate_hz)
            remark = remark[: len(sound) - first]
            sound[first : first + len(remark)] += remark * 10 ** (rng.normal(0, 1.5) / 20)
            heard = _audible(remark, settings.sound_rate_hz)
            tick = round(clock * TRUTH_HZ)
            heard = heard[: ticks - tick]
            speech[tick : tick + len(heard)] |= heard
            topic[tick : tick + len(heard)] = about
            clock += len(remark) / settings.sound_rate_hz + float(rng.gamma(2.0, 0.1)) + 0.06
    return Narration(sound, settings.sound_rate_hz, speech, topic)


def _windows(rng: np.random.Generator, script: list[Segment], settings: PhantomSettings) -> list[_Window]:
    """Return when each segment is talked over: late or early against what is on the screen."""
    windows = []
    for segment in script:
        start, stop = segment.start / settings.frame_rate_hz, segment.stop / settings.frame_rate_hz
        share = settings.idle_share if segment.plane == BACKGROUND else settings.spoken_share
        if rng.random() >= share:
            continue
        if segment.plane != BACKGROUND:
            start, stop = start + between(rng, settings.delay_seconds), stop + between(rng, settings.delay_seconds)
        windows.append(_Window(segment.plane, max(start, 0.0), stop))
    return windows


def _audible(remark: NDArray[np.float32], rate_hz: int) -> NDArray[np.bool_]:
    hop = rate_hz // TRUTH_HZ
    level = np.sqrt(np.mean(remark[: len(remark) // hop * hop].reshape(-1, hop) ** 2, axis=1))
    return np.asarray(level > AUDIBLE * level.max(initial=0.0), np.bool_)
