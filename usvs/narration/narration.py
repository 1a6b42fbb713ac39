"""Narration of a scan: remarks about what is shown, their times, and their ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from usvs.narration.lexicon import Lexicon
from usvs.narration.voice import Speakers
from usvs.utils.seeds import between

GROUND_TRUTH_HZ = 100
SILENCE = -1
CHATTER = -2
MIN_AUDIBLE_FRACTION = 0.03  # of the remark's loudest 10 ms; quieter 10 ms are a pause
MIN_WINDOW_SECONDS = 0.3  # a remark begins only where this much of its window remains


@dataclass(frozen=True)
class Shown:
    """What is on the screen from `start` to `stop` (seconds): a topic of the lexicon, or None for nothing of note."""

    topic: int | None
    start: float
    stop: float


@dataclass(frozen=True)
class Pace:
    """How much is said, and when.

    Attributes:
        spoken_fraction: of the shown topics that are commented.
        chatter_fraction: of the remarks that are about another topic.
        idle_fraction: of the times without a topic that are commented, with chatter.
        delay_seconds: bounds of the delays of a comment's start and end relative to what is shown.
    """

    spoken_fraction: float
    chatter_fraction: float
    idle_fraction: float
    delay_seconds: tuple[float, float]


@dataclass(frozen=True)
class Remark:
    """One remark.

    Attributes:
        text: that was synthesized.
        topic: index in the lexicon, or `CHATTER`.
        speaker: index of the voice.
        start: seconds.
        stop: seconds, at most the end of the scan.
    """

    text: str
    topic: int
    speaker: int
    start: float
    stop: float


@dataclass(frozen=True)
class Narration:
    """Clean speech and its ground truth.

    Attributes:
        sound: [samples] at `rate_hz`.
        rate_hz: of the sound.
        speech: [n] at 100 Hz: whether there is audible speech.
        topic: [n] at 100 Hz: index of the topic spoken of, including pauses in a remark; -1 silence, -2 another topic.
        remarks: in the order of their times.
    """

    sound: NDArray[np.float32]
    rate_hz: int
    speech: NDArray[np.bool_]
    topic: NDArray[np.int16]
    remarks: tuple[Remark, ...] = ()


def narrate(
    rng: np.random.Generator,
    speakers: Speakers,
    shown: Sequence[Shown],
    lexicon: Lexicon,
    pace: Pace,
    seconds: float,
    rate_hz: int,
) -> Narration:
    """Synthesize the narration of a scan, spoken by all sonographers of the archive in random turns.

    If each scan had a voice of its own, a network could match speech and video by recognising the scan, which is easier
    than recognising anatomy and useless for new patients.

    Args:
        rng: stream of the scan's narration.
        speakers: the opened voices.
        shown: what is on the screen, in order.
        lexicon: what is said about it.
        pace: fractions of speech and of other topics, delays.
        seconds: duration of the scan.
        rate_hz: sample rate of the narration.
    """
    ticks = round(seconds * GROUND_TRUTH_HZ)
    sound = np.zeros(round(seconds * rate_hz), np.float32)
    speech, topic = np.zeros(ticks, np.bool_), np.full(ticks, SILENCE, np.int16)
    remarks = []
    clock = 0.0
    for window in _windows(rng, shown, pace):
        clock = max(clock, window.start)
        while clock < min(window.stop, seconds) - MIN_WINDOW_SECONDS:
            about = CHATTER if window.topic is None or rng.random() < pace.chatter_fraction else window.topic
            text = lexicon.off_topic(rng) if about == CHATTER else lexicon.on_topic(rng, about)
            speaker = int(rng.integers(len(speakers.voices)))
            spoken = speakers.synthesize(text, speaker)
            remark = soxr.resample(spoken, speakers.rate_hz, rate_hz, quality="MQ")
            first = round(clock * rate_hz)
            remark = remark[: len(sound) - first]
            sound[first : first + len(remark)] += remark * 10 ** (rng.normal(0, 1.5) / 20)
            audible = _find_audible(remark, rate_hz)
            tick = round(clock * GROUND_TRUTH_HZ)
            audible = audible[: ticks - tick]
            speech[tick : tick + len(audible)] |= audible
            topic[tick : tick + len(audible)] = about
            remarks.append(Remark(text, about, speaker, clock, clock + len(remark) / rate_hz))
            clock += len(remark) / rate_hz + float(rng.gamma(2.0, 0.1)) + 0.06
    return Narration(sound, rate_hz, speech, topic, tuple(remarks))


def _windows(rng: np.random.Generator, shown: Sequence[Shown], pace: Pace) -> list[Shown]:
    """Return the times at which each topic is commented, with random delays against the screen."""
    windows = []
    for part in shown:
        start, stop = part.start, part.stop
        if rng.random() >= (pace.idle_fraction if part.topic is None else pace.spoken_fraction):
            continue
        if part.topic is not None:
            start, stop = start + between(rng, pace.delay_seconds), stop + between(rng, pace.delay_seconds)
        windows.append(Shown(part.topic, max(start, 0.0), stop))
    return windows


def _find_audible(remark: NDArray[np.float32], rate_hz: int) -> NDArray[np.bool_]:
    hop = rate_hz // GROUND_TRUTH_HZ
    level = np.sqrt(np.mean(remark[: len(remark) // hop * hop].reshape(-1, hop) ** 2, axis=1))
    return np.asarray(level > MIN_AUDIBLE_FRACTION * level.max(initial=0.0), np.bool_)
