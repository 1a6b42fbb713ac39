"""One scan from its seeds: frames, sound, gaze, and their ground truth."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from usvs.archive.labels import BACKGROUND, STANDARD_PLANES
from usvs.narration.narration import Narration, Pace, Shown, narrate
from usvs.narration.sound import record_sound
from usvs.narration.voice import Speakers, draw_voice
from usvs.phantom.anatomy import Slab, draw_slab, reflectivity
from usvs.phantom.gaze import Gaze, simulate_gaze
from usvs.phantom.geometry import FloatArray, SectorGeometry, draw_sector_geometry
from usvs.phantom.lexicon import LEXICON
from usvs.phantom.screen import Screen
from usvs.phantom.script import Segment, draw_script
from usvs.phantom.settings import PhantomSettings
from usvs.phantom.sonography import FrameRenderer, Layer, ScannerSettings, draw_contact, draw_scanner
from usvs.phantom.transducer import Pose, draw_poses
from usvs.utils.seeds import between, stream

FADE_SECONDS = 0.32  # duration of the cross-fade from one plane to the next
SEARCH_SPEED = (0.6, 1.3)  # tissue units a second
CURSOR_CHANCE = 0.25


@dataclass(frozen=True)
class Sounds:
    """The recorded sound [samples], and the clean narration with its ground truth."""

    recorded: NDArray[np.float32]
    narration: Narration


class PhantomScan:
    """One scan; everything about it is a function of (seed, patient, scan, settings).

    Args:
        seed: of the archive.
        patient: number of the patient, from 1.
        scan: number of the patient's scan, from 1.
        settings: of the archive.
    """

    def __init__(self, seed: int, patient: int, scan: int, settings: PhantomSettings) -> None:
        self.seed: int
        self.patient: int
        self.scan: int
        self.settings: PhantomSettings
        self.seed, self.patient, self.scan, self.settings = seed, patient, scan, settings
        self.sector: SectorGeometry = draw_sector_geometry(seed, patient, settings)
        self.scanner: ScannerSettings = draw_scanner(seed, patient)
        self.script: list[Segment] = draw_script(self._stream("script"), settings)
        self.rate_hz: int = settings.frame_rate_hz
        self.frames: int = self.script[-1].stop
        self.poses: list[list[Pose]] = [self._draw_poses(visit) for visit in range(len(self.script))]

    def planes(self) -> NDArray[np.int16]:
        """Return the plane of every frame [frames]."""
        return np.concatenate([np.full(s.frames, s.plane, np.int16) for s in self.script])

    def pictures(self) -> Iterator[NDArray[np.uint8]]:
        """Yield every frame as planar YUV, see `Screen.yuv`."""
        screen = Screen(self.seed, self.patient, self.sector)
        renderer = FrameRenderer(self.sector, self.scanner, self._stream("receiver"))
        fields = lru_cache(maxsize=3)(self._field)
        for visit, segment in enumerate(self.script):
            contact = draw_contact(self._stream("contact", visit))
            cursor = self._cursor(visit)
            for frame in range(segment.start, segment.stop):
                layers = [Layer(fields(v), pose, weight) for v, pose, weight in self._layers(visit, frame)]
                yield screen.yuv(screen.compose(renderer.frame(layers, contact), cursor))

    def sounds(self) -> Sounds:
        """Synthesize and record the narration."""
        with Speakers([draw_voice(self.seed, number) for number in range(self.settings.sonographers)]) as speakers:
            narration = narrate(
                self._stream("narration"),
                speakers,
                self.shown(),
                LEXICON,
                self.pace(),
                self.settings.scan_seconds,
                self.settings.sound_rate_hz,
            )
        return Sounds(record_sound(self.seed, self._stream("noise"), narration), narration)

    def landmarks(self) -> list[NDArray[np.float64]]:
        """Return the landmarks of every frame, each [k, 2], as fractions of the frame, the main one first."""
        size = np.array([self.sector.width, self.sector.height])
        found = []
        for visit, poses in enumerate(self.poses):
            marks = self._slab(visit).landmarks
            found += [self.sector.to_pixels(pose.view_points(marks)) / size for pose in poses]
        return found

    def gaze(self, landmarks: list[NDArray[np.float64]]) -> Gaze:
        """Simulate gaze at the landmarks of each frame."""
        return simulate_gaze(
            self._stream("gaze"),
            self.frames / self.rate_hz,
            self.settings.gaze_rate_hz,
            lambda now: landmarks[min(int(now * self.rate_hz), self.frames - 1)],
        )

    def shown(self) -> list[Shown]:
        """Return what a sonographer sees, in the terms of the narration: a plane's index is its topic."""
        return [
            Shown(None if s.plane == BACKGROUND else s.plane, s.start / self.rate_hz, s.stop / self.rate_hz)
            for s in self.script
        ]

    def pace(self) -> Pace:
        """Return how much is said, and when."""
        s = self.settings
        return Pace(s.spoken_fraction, s.chatter_fraction, s.idle_fraction, s.delay_seconds)

    def _stream(self, *names: str | int) -> np.random.Generator:
        return stream(self.seed, "patient", self.patient, "scan", self.scan, *names)

    def _slab(self, visit: int) -> Slab:
        plane = STANDARD_PLANES[self.script[visit].plane]
        proportions = stream(self.seed, "patient", self.patient, "anatomy", plane)
        return draw_slab(plane, proportions, self._stream("visit", visit), self.sector.apex_in_tissue(), self.settings)

    def _field(self, visit: int) -> FloatArray:
        return reflectivity(self._slab(visit).canvas, self._stream("scatterers", visit))

    def _draw_poses(self, visit: int) -> list[Pose]:
        segment, rng = self.script[visit], self._stream("probe", visit)
        if segment.plane == BACKGROUND:
            speed = between(rng, SEARCH_SPEED)
        else:
            left, _, right, _ = self.sector.inscribed_crop()
            speed = between(rng, self.settings.drift_fraction) * (right - left) / self.sector.unit()[2] / 2
        return draw_poses(rng, segment.frames, self.rate_hz, speed)

    def _layers(self, visit: int, frame: int) -> list[tuple[int, Pose, float]]:
        """Return visit, pose and weight of each layer of a frame: two layers during a cross-fade."""
        segment, half = self.script[visit], FADE_SECONDS * self.rate_hz / 2
        own = self.poses[visit][frame - segment.start]
        since, until = frame + 0.5 - segment.start, segment.stop - frame - 0.5
        if visit > 0 and since < min(half, until):
            fraction = 0.5 - 0.5 * since / half
            return [(visit, own, 1 - fraction), (visit - 1, self.poses[visit - 1][-1], fraction)]
        if visit + 1 < len(self.script) and until < half:
            fraction = 0.5 - 0.5 * until / half
            return [(visit, own, 1 - fraction), (visit + 1, self.poses[visit + 1][0], fraction)]
        return [(visit, own, 1.0)]

    def _cursor(self, visit: int) -> tuple[float, float] | None:
        rng = self._stream("cursor", visit)
        if rng.random() >= CURSOR_CHANCE:
            return None
        left, top, right, bottom = self.sector.inscribed_crop()
        return between(rng, (left, right)), between(rng, (top, bottom))
