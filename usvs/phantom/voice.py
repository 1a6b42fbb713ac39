"""A voice: espeak-ng through ctypes, from the library and voices that the PyPI package espeakng-loader carries."""

import _ctypes
import ctypes
import tempfile
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


class Speaker:
    """A sonographer's voice; use it in a `with` block.

    A few sonographers scan everybody, so a voice says next to nothing about the patient on the screen; were it the
    patient's own, telling patients apart would be an easier way to match sound and picture than anatomy is.

    The library is unloaded at the end: espeak-ng carries the state of its oscillators from one text to the next, even
    through its own termination, and a scan must sound the same whatever was spoken before it in this process.
    """

    def __init__(self, seed: int, sonographer: int) -> None:
        rng = stream(seed, "sonographer", sonographer, "voice")
        self.voice = f"{rng.choice(ACCENTS)}+{rng.choice(SPEAKERS)}"
        self.words_per_minute = int(rng.integers(145, 190))
        self.pitch = int(rng.integers(30, 70))
        self.pitch_range = int(rng.integers(30, 70))
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
        if self.rate_hz <= 0 or self._library.espeak_SetVoiceByName(self.voice.encode()) != 0:
            raise MissingDependencyError(f"espeak-ng could not load the voice '{self.voice}' from '{data}'")
        self._library.espeak_SetSynthCallback(self._on_samples)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(RANDOM_SEED))  # else breath is seeded by the wall clock
        for parameter, value in ((RATE, self.words_per_minute), (PITCH, self.pitch), (PITCH_RANGE, self.pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.espeak_Terminate()
        handle = self._library._handle
        del self._library
        _ctypes.dlclose(handle)
        self._folder.cleanup()

    def say(self, text: str) -> NDArray[np.float32]:
        """Return the spoken text [samples] at `rate_hz`, its silent ends cut off."""
        self._pieces.clear()
        encoded = text.encode()
        if self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, CHARACTERS_UTF8, None, None) != 0:
            raise MissingDependencyError(f"espeak-ng could not speak '{text}'")
        sound: NDArray[np.float32] = np.concatenate(self._pieces).astype(np.float32) / np.float32(32768)
        loud = np.flatnonzero(np.abs(sound) > 0.01)
        return sound[loud[0] : loud[-1] + 1] if len(loud) else sound[:0]

    def _take(self, samples: Any, count: int, events: Any) -> int:
        if count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0
