"""Speech as queries: recordings, and names that espeak-ng speaks, as embeddings in the shared space of a run."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usvs.archive.class_list import ClassList
from usvs.errors import ConfigError, DataError
from usvs.evaluation.zero_shot import combine_voices
from usvs.media.audio import AudioDecodeStats, read_audio
from usvs.narration.lexicon import CHATTER
from usvs.narration.spoken import PHRASINGS, SpokenClasses, synthesize_terms
from usvs.narration.voice import Voice
from usvs.tasks.pretraining.shared_space import SharedSpace
from usvs.utils.progress import track
from usvs.utils.text import printable, quantity

logger: logging.Logger = logging.getLogger(__name__)

MOST_QUERY_SECONDS = 60.0
OTHER_REMARKS = CHATTER[:8]


def embed_recording(space: SharedSpace, file: Path) -> NDArray[np.float32]:
    """Return the embedding [d] of an audio file, or of the sound of a video: the mean over its speech.

    Raises:
        DataError: for a file that cannot be read, silence, or a longer recording than `MOST_QUERY_SECONDS`.
    """
    return space.embed_speech([read_query(space, file)], f"audio '{file}'")


def read_query(space: SharedSpace, file: Path) -> NDArray[np.float32]:
    """Return a recording [samples] at the rate of the run's speech; errors as of `embed_recording`."""
    if not file.is_file():
        raise DataError(f"audio '{file}': expected an audio file, got {'a folder' if file.is_dir() else 'no file'}")
    stats = AudioDecodeStats()
    try:
        sound = read_audio(file, file, rate_hz=space.rate_hz, stats=stats, max_seconds=MOST_QUERY_SECONDS)
    except DataError as error:
        raise DataError(f"audio '{file}': {error}") from None
    if stats.seconds > MOST_QUERY_SECONDS:
        raise DataError(
            f"audio '{file}': expected a query of at most {MOST_QUERY_SECONDS:.0f} s, got {stats.seconds:.0f} s"
        )
    if stats.note is not None:
        logger.info(f"'{file}': {stats.note}")
    return sound


def embed_text(space: SharedSpace, texts: Sequence[str], voices: Sequence[Voice]) -> NDArray[np.float32]:
    """Return the embedding [d] of spoken texts that mean the same, less what any speech of the voices has.

    Remarks about other topics in the same voices say what that is: with a voice not in its training data, it is most of
    an embedding. Voices are weighted as of `combine_voices`.

    Raises:
        MissingDependencyError: where espeak-ng is not installed.
        DataError: for a text that makes no sound.
    """
    what = speak_classes(space, [texts], voices)
    others = speak_classes(space, [(remark,) for remark in OTHER_REMARKS], voices, ("{a}",))
    return np.asarray(combine_voices(np.stack([*what, *others]))[0], np.float32)


def embed_classes(space: SharedSpace, classes: SpokenClasses, voices: Sequence[Voice]) -> NDArray[np.float32]:
    """Return one embedding of each class [C, d], see `combine_voices`; errors as of `embed_text`."""
    return combine_voices(np.stack(speak_classes(space, classes.terms, voices)))


def speak_classes(
    space: SharedSpace,
    terms: Sequence[Sequence[str]],
    voices: Sequence[Voice],
    phrasings: Sequence[str] = PHRASINGS,
) -> list[NDArray[np.float32]]:
    """Return the embedding of each class in each voice: of each class [voices, d].

    Args:
        space: of a run.
        terms: of each class.
        voices: that speak.
        phrasings: of each term.

    Raises:
        MissingDependencyError: where espeak-ng is not installed.
        DataError: for a term that makes no sound.
    """
    found = []
    for of_class in track(terms, "speaking texts") if len(terms) > 1 else terms:
        what = f"text '{printable(of_class[0])}'"
        spoken = synthesize_terms(of_class, voices, space.rate_hz, phrasings)
        found.append(np.stack([space.embed_speech(sounds, what) for sounds in spoken]))
    return found


def embed_recorded_classes(space: SharedSpace, folder: Path) -> tuple[ClassList, NDArray[np.float32]]:
    """Return the classes of a folder with a folder of recordings for each, and an embedding of each class [C, d].

    Args:
        space: of a run.
        folder: with ``CLASS/*.wav``; other audio formats work too, hidden files are ignored.

    Raises:
        ConfigError: for fewer than two classes, or a class without recordings.
        DataError: for a recording that cannot be read, or is silent.
    """
    folders = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    if len(folders) < 2:
        raise ConfigError(
            f"classes '{folder}': expected a folder of recordings for each of two or more classes, got "
            f"{quantity(len(folders), 'folder')}"
        )
    embeddings = []
    for one in folders:
        files = sorted(file for file in one.iterdir() if file.is_file() and not file.name.startswith("."))
        if not files:
            raise ConfigError(f"classes '{folder}': expected recordings in '{one}', got none")
        embeddings.append(np.mean([embed_recording(space, file) for file in files], axis=0))
    return ClassList(tuple(one.name for one in folders)), np.asarray(np.stack(embeddings), np.float32)
