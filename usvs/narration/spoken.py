"""Spoken names of classes: a list of classes with their terms, and each of them in several voices and phrasings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from usvs.archive.class_list import ClassList
from usvs.errors import ConfigError, DataError
from usvs.narration.lexicon_file import read_lexicon
from usvs.narration.voice import ACCENTS, SPEAKERS, Speakers, Voice
from usvs.utils.regular_files import read_regular_text
from usvs.utils.seeds import stream
from usvs.utils.text import printable, utf8_text

PHRASINGS = ("{a}", "{a}, {a}", "the {a}")  # a piece of speech is short: each holds much of the term
VOICES = 16  # of the default: one voice not in the training data is far less reliable than the mean of several
VOICE_SEED = 0x701CE
WORDS_PER_MINUTE, PITCH, PITCH_RANGE = (145, 190), (30, 70), (30, 70)  # as of a sonographer, see `draw_voice`


@dataclass(frozen=True)
class SpokenClasses:
    """Classes and what is said for each.

    Attributes:
        class_list: names of the classes, in order.
        terms: of each class, at least one.
    """

    class_list: ClassList
    terms: tuple[tuple[str, ...], ...] = field(repr=False)


def read_spoken_classes(file: str | Path) -> SpokenClasses:
    """Read classes from a text file: a line ``name`` or ``name: term, term`` for each; ``#`` begins a comment.

    A class without terms is spoken as its name, with spaces for underscores and hyphens. A TOML file is read as a
    lexicon (`usvs.narration.read_lexicon`).

    Raises:
        ConfigError: if the file cannot be read, has fewer than two classes, or a class twice.
    """
    path = Path(file)
    if path.suffix.lower() == ".toml":
        return spoken_classes(dict(read_lexicon(path).topics), f"classes '{file}'")
    try:
        lines = read_regular_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(f"classes '{file}': expected a text file with a class on each line: {reason}") from None
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, start=1):
        name, colon, rest = line.partition("#")[0].partition(":")
        name = name.strip().lstrip("\ufeff")
        terms = tuple(term.strip() for term in rest.split(",") if term.strip())
        if not name and not terms:
            continue
        where = f"classes '{file}', line {number}"
        if not name or (colon and not terms):
            raise ConfigError(f"{where}: expected 'name' or 'name: term, term', got '{printable(line.strip())}'")
        if name in found:
            raise ConfigError(f"{where}: expected each class once, got '{printable(name)}' again")
        found[name] = terms
    return spoken_classes(found, f"classes '{file}'")


def spoken_classes(terms: Mapping[str, Sequence[str]] | Sequence[str], what: str = "classes") -> SpokenClasses:
    """Return classes from names, or from names with terms; a class without terms is spoken as its name.

    Args:
        terms: of each class, in order.
        what: they are, for messages.

    Raises:
        ConfigError: for fewer than two classes, or a name that is given twice.
    """
    given = terms if isinstance(terms, Mapping) else dict.fromkeys(terms, ())
    if len(given) < len(terms) or len(given) < 2:
        raise ConfigError(f"{what}: expected at least two classes, each once, got {len(terms)}: {', '.join(terms)}")
    said = tuple(tuple(of_class) or (speakable(name),) for name, of_class in given.items())
    return SpokenClasses(ClassList(tuple(given)), said)


def speakable(name: str) -> str:
    """Return the name of a class as it is spoken: spaces for underscores and hyphens."""
    return " ".join(name.replace("_", " ").replace("-", " ").split())


def draw_voices(count: int, exclude: Sequence[str] = (), seed: int = VOICE_SEED) -> tuple[Voice, ...]:
    """Draw different voices, of all accents and speakers alike.

    Args:
        count: of the voices.
        exclude: names of voices that are not drawn, for example those of an archive.
        seed: of the draws.

    Raises:
        ConfigError: for more voices than there are.
    """
    names = [f"{accent}+{speaker}" for accent in ACCENTS for speaker in SPEAKERS]
    free = [name for name in names if name not in set(exclude)]
    if not 1 <= count <= len(free):
        raise ConfigError(f"voices: expected 1 to {len(free)}, got {count}")
    rng = stream(seed, "prompts", "voices")
    chosen = rng.permutation(np.array(free))[:count].tolist()
    return tuple(Voice(name, *(int(rng.integers(*span)) for span in SPANS)) for name in chosen)


SPANS = (WORDS_PER_MINUTE, PITCH, PITCH_RANGE)


def find_voice(name: str) -> Voice:
    """Return a voice of espeak-ng by its name, such as ``en-us+f2``, at a medium rate and pitch.

    Raises:
        ConfigError: for another name.
    """
    accent, _, speaker = name.partition("+")
    if accent not in ACCENTS or speaker not in SPEAKERS:
        raise ConfigError(
            f"--voice: expected ACCENT+SPEAKER of accents {', '.join(ACCENTS)} and speakers {', '.join(SPEAKERS)}, "
            f"got '{printable(name)}'"
        )
    return Voice(name, *(sum(span) // 2 for span in SPANS))


def synthesize_terms(
    terms: Sequence[str], voices: Sequence[Voice], rate_hz: int, phrasings: Sequence[str] = PHRASINGS
) -> Iterator[list[NDArray[np.float32]]]:
    """Yield, for each voice, the recordings of all terms in all phrasings, each [samples] at `rate_hz`.

    Args:
        terms: texts.
        voices: of espeak-ng.
        rate_hz: of the result.
        phrasings: texts in which ``{a}`` is replaced by a term.

    Raises:
        MissingDependencyError: where espeak-ng is not installed.
        DataError: for a term that makes no sound.
    """
    with Speakers(voices) as speakers:
        for number in range(len(voices)):
            yield [
                soxr.resample(_speak(speakers, phrasing.format(a=term), number), speakers.rate_hz, rate_hz)
                for term in terms
                for phrasing in phrasings
            ]


def _speak(speakers: Speakers, text: str, number: int) -> NDArray[np.float32]:
    if utf8_text(text) != text:
        raise DataError(f"text '{printable(text)}': expected UTF-8, got another encoding")
    sound = speakers.synthesize(text, number)
    if not len(sound):
        raise DataError(f"text '{printable(text)}': expected words that espeak-ng can speak, got no sound")
    return sound
