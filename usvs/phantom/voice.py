"""The voices: espeak-ng through ctypes, from the library and voices that the PyPI package espeakng-loader carries."""

import _ctypes
import ctypes
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from usvs.errors import MissingDependencyError
from usvs.phantom.seeds import stream

ACCENTS = ("en", "en-us", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-gb-x-gbclan")
SPEAKERS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")
LONGEST_DATA_PATH = 120  # espeak-ng keeps its data path in a fixed buffer of 160 characters
AUDIO_OUTPUT_SYNCHRONOUS = 2
CHARACTERS_UTF8 = 1
RANDOM_SEED = 1  # what varies is drawn here, by name; espeak-ng's own chance is to be the same every time
RATE, PITCH, PITCH_RANGE = 1, 3, 4  # espeak_PARAMETER

_OnSamples = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def espeak_paths() -> tuple[str, str]:
    """Return where the speech library and its data lie.

    Raises:
        MissingDependencyError: without the package espeakng-loader.
    """
    try:
        import espeakng_loader
    except ImportError:
        raise MissingDependencyError(
            'the phantom\'s narration needs the package espeakng-loader: pip install "usvs[phantom]"'
        ) from None
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())


@dataclass(frozen=True)
class Voice:
    """How one sonographer speaks.

    Attributes:
        name: of espeak-ng's voice, accent and speaker.
        words_per_minute: the pace.
        pitch: 0 to 99.
        pitch_range: 0 (monotone) to 99.
    """

    name: str
    words_per_minute: int
    pitch: int
    pitch_range: int


def draw_voice(seed: int, sonographer: int) -> Voice:
    """Return the voice of an archive's sonographer number `sonographer`."""
    rng = stream(seed, "sonographer", sonographer, "voice")
    name = f"{rng.choice(ACCENTS)}+{rng.choice(SPEAKERS)}"
    return Voice(name, int(rng.integers(145, 190)), int(rng.integers(30, 70)), int(rng.integers(30, 70)))


class Speakers:
    """Several voices of one library; use it in a `with` block.

    The library is unloaded at the end: espeak-ng carries the state of its oscillators from one text to the next, even
    through its own termination, and a scan must sound the same whatever was spoken before it in this process.

    Args:
        voices: whose turn it is, `synthesize` is given a position in it.
    """

    def __init__(self, voices: Sequence[Voice]) -> None:
        self.voices = tuple(voices)
        self.rate_hz = 0
        self._pieces: list[NDArray[np.int16]] = []

    def __enter__(self) -> Self:
        library, data = espeak_paths()
        self._folder = tempfile.TemporaryDirectory(prefix="usvs-")
        if len(data) > LONGEST_DATA_PATH:
            short = Path(self._folder.name) / "espeak-ng-data"
            short.symlink_to(data)
            data = str(short)
        self._library: Any = ctypes.CDLL(library)
        self._on_samples = _OnSamples(self._take)
        self.rate_hz = self._library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, data.encode(), 0)
        if self.rate_hz <= 0:
            raise MissingDependencyError(f"espeak-ng could not be started with the data in '{data}'")
        self._library.espeak_SetSynthCallback(self._on_samples)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(RANDOM_SEED))  # else breath is seeded by the wall clock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.espeak_Terminate()
        handle = self._library._handle
        del self._library
        _ctypes.dlclose(handle)
        self._folder.cleanup()

    def synthesize(self, text: str, speaker: int = 0) -> NDArray[np.float32]:
        """Return the text [samples] at `rate_hz` in one of the voices, its silent ends cut off."""
        self._take_voice(self.voices[speaker])
        self._pieces.clear()
        encoded = text.encode()
        if self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, CHARACTERS_UTF8, None, None) != 0:
            raise MissingDependencyError(f"espeak-ng could not speak '{text}'")
        sound: NDArray[np.float32] = np.concatenate(self._pieces).astype(np.float32) / np.float32(32768)
        loud = np.flatnonzero(np.abs(sound) > 0.01)
        return sound[loud[0] : loud[-1] + 1] if len(loud) else sound[:0]

    def _take_voice(self, voice: Voice) -> None:
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise MissingDependencyError(f"espeak-ng could not load the voice '{voice.name}'")
        for parameter, value in (
            (RATE, voice.words_per_minute),
            (PITCH, voice.pitch),
            (PITCH_RANGE, voice.pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)

    def _take(self, samples: Any, count: int, events: Any) -> int:
        if count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0
