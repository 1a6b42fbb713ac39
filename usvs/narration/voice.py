"""Speech synthesis by espeak-ng through ctypes; library and voices are from the PyPI package espeakng-loader."""

import _ctypes
import ctypes
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from usvs.errors import MissingDependencyError
from usvs.utils.dependencies import missing_dependency
from usvs.utils.seeds import stream

ACCENTS = ("en", "en-us", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-gb-x-gbclan")
SPEAKERS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")
MAX_DATA_PATH_CHARACTERS = 120  # espeak-ng keeps its data path in a fixed buffer of 160 characters
AUDIO_OUTPUT_SYNCHRONOUS = 2
CHARACTERS_UTF8 = 1
RANDOM_SEED = 1  # espeak-ng's own random numbers must be the same every time; variation is drawn from named streams
RATE, PITCH, PITCH_RANGE = 1, 3, 4  # espeak_PARAMETER

_OnSamples = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def espeak_paths() -> tuple[str, str]:
    """Return the paths of the speech library and of its data.

    Raises:
        MissingDependencyError: if the package espeakng-loader is missing.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise missing_dependency(error, "espeakng_loader") from None
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())


@dataclass(frozen=True)
class Voice:
    """The voice of one sonographer.

    Attributes:
        name: of the voice in espeak-ng: accent and speaker.
        words_per_minute: speaking rate.
        pitch: 0 to 99.
        pitch_range: 0 (monotone) to 99.
    """

    name: str
    words_per_minute: int
    pitch: int
    pitch_range: int


def draw_voice(seed: int, sonographer: int) -> Voice:
    """Return the voice of sonographer number `sonographer` of an archive."""
    rng = stream(seed, "sonographer", sonographer, "voice")
    name = f"{rng.choice(ACCENTS)}+{rng.choice(SPEAKERS)}"
    return Voice(name, int(rng.integers(145, 190)), int(rng.integers(30, 70)), int(rng.integers(30, 70)))


class Speakers:
    """Several voices of one library, used in a `with` block.

    The library is unloaded at the end of the block: espeak-ng keeps the state of its oscillators from one text to the
    next, even after its own termination, and a scan must not depend on what was synthesized before it.

    Args:
        voices: `synthesize` takes an index into them.
    """

    def __init__(self, voices: Sequence[Voice]) -> None:
        self.voices: tuple[Voice, ...] = tuple(voices)
        self.rate_hz: int = 0
        self._pieces: list[NDArray[np.int16]] = []

    def __enter__(self) -> Self:
        library, data = espeak_paths()
        self._folder = tempfile.TemporaryDirectory(prefix="usvs-")
        if len(data) > MAX_DATA_PATH_CHARACTERS:
            short = Path(self._folder.name) / "espeak-ng-data"
            short.symlink_to(data)
            data = str(short)
        self._library: Any = ctypes.CDLL(library)
        self._on_samples = _OnSamples(self._collect_samples)
        self.rate_hz = self._library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, data.encode(), 0)
        if self.rate_hz <= 0:
            raise MissingDependencyError(f"espeak-ng cannot be started with the data in '{data}'")
        self._library.espeak_SetSynthCallback(self._on_samples)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(RANDOM_SEED))  # else breath is seeded by the wall clock
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._library.espeak_Terminate()
        handle = self._library._handle
        del self._library
        _ctypes.dlclose(handle)
        self._folder.cleanup()

    def synthesize(self, text: str, speaker: int = 0) -> NDArray[np.float32]:
        """Return spoken text [samples] at `rate_hz` in one of the voices, without silent ends."""
        self._select_voice(self.voices[speaker])
        self._pieces.clear()
        encoded = text.encode()
        if self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, CHARACTERS_UTF8, None, None) != 0:
            raise MissingDependencyError(f"espeak-ng cannot synthesize '{text}'")
        if not self._pieces:  # a text without words
            return np.zeros(0, np.float32)
        sound: NDArray[np.float32] = np.concatenate(self._pieces).astype(np.float32) / np.float32(32768)
        loud = np.flatnonzero(np.abs(sound) > 0.01)
        return sound[loud[0] : loud[-1] + 1] if len(loud) else sound[:0]

    def _select_voice(self, voice: Voice) -> None:
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise MissingDependencyError(f"espeak-ng cannot load the voice '{voice.name}'")
        for parameter, value in (
            (RATE, voice.words_per_minute),
            (PITCH, voice.pitch),
            (PITCH_RANGE, voice.pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)

    def _collect_samples(self, samples: Any, count: int, events: Any) -> int:
        if count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0
