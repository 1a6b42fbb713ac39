"""The script of one scan: which plane is shown when, and the transitions between planes."""

from dataclasses import dataclass

import numpy as np

from usvs.archive.labels import BACKGROUND, STANDARD_PLANES
from usvs.phantom.settings import PhantomSettings
from usvs.utils.seeds import between


@dataclass(frozen=True)
class Segment:
    """Frames `start` to `stop` (exclusive) with one plane, an index in `STANDARD_PLANES`."""

    plane: int
    start: int
    stop: int

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.stop - self.start


def draw_script(rng: np.random.Generator, settings: PhantomSettings) -> list[Segment]:
    """Draw the segments of a scan, without gaps, from the first frame to the last.

    Every plane occurs once, in random order, before any occurs again. Durations are drawn within the bounds of the
    settings, then scaled by one factor to fill the scan.
    """
    dwell, between_planes = np.mean(settings.dwell_seconds), np.mean(settings.transition_seconds)
    search = np.mean(settings.search_seconds) - between_planes
    visits = max(1, round(settings.scan_seconds / (dwell + between_planes + settings.search_fraction * search)))
    rounds = -(-visits // BACKGROUND)
    order = np.concatenate([rng.permutation(BACKGROUND) for _ in range(rounds)])[:visits]
    planes, seconds = [], []
    for plane in order:
        searching = rng.random() < settings.search_fraction
        planes += [BACKGROUND, int(plane)]
        seconds.append(between(rng, settings.search_seconds if searching else settings.transition_seconds))
        seconds.append(between(rng, settings.dwell_seconds))
    ends = np.cumsum(seconds) * settings.scan_seconds / np.sum(seconds)
    cuts = [0, *np.round(ends * settings.frame_rate_hz).astype(int).tolist()]
    return [Segment(p, a, b) for p, a, b in zip(planes, cuts[:-1], cuts[1:], strict=True) if b > a]


def plane_rows(script: list[Segment], rate_hz: float) -> list[tuple[float, float, str]]:
    """Return the rows of a planes.csv: start and end in seconds, and the plane's name."""
    return [(s.start / rate_hz, s.stop / rate_hz, STANDARD_PLANES[s.plane]) for s in script]
