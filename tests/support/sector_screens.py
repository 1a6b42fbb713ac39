"""Synthetic scanner screens with known sector geometry: four kinds of transducers, and what real screens do to them.

A screen has speckle and tissue along its beams; it may have a dark depth, a flank without contact, black fluid near the
probe, shadows, text, rulers, a gray wedge, a header, a logo, an inset over the sector, a gray background, and it may be
cut by the picture's border, resized and compressed. What is drawn depends on the kind and the seed alone.
"""

from dataclasses import dataclass

import cv2
import numpy as np

KINDS = ("phased", "convex", "linear", "trapezoid")
SYMBOLS = "ABCDEFGHIKLMNOPRSTUVWXYZ0123456789./:- "
MARGIN_PX = 5  # between the sector and what is written beside it


@dataclass(frozen=True)
class Screen:
    """Frames [n, H, W], uint8, of a screen; `area` and `text` [H, W]: the visible sector, and what is written."""

    frames: np.ndarray
    area: np.ndarray
    text: np.ndarray
    is_cut: bool


@dataclass(frozen=True)
class Layout:
    """A sector on a screen: its apex or centre, edges x = axis +- (half_width + slope (y - top)), depth and arcs."""

    width: int
    height: int
    axis: float
    top: float
    half_width: float
    slope: float
    depth: float
    is_top_arc: bool
    is_bottom_arc: bool

    def beams(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lateral position (-1 .. 1 inside the sector) and the depth (0 .. 1 inside) of pixels [H, W]."""
        down, across = np.mgrid[: self.height, : self.width].astype(np.float32)
        across, down = across + 0.5 - self.axis, down + 0.5 - self.top
        edge = np.maximum(self.half_width + self.slope * down, 1e-3)
        lateral = across / edge
        if self.slope == 0:
            return lateral, down / self.depth
        apex = self.half_width / self.slope  # above the top
        angle = np.arctan2(across, np.maximum(down + apex, 1e-3))
        lateral = np.where(down + apex > 0, angle / np.arctan(self.slope), 9.0)
        # The corner of the top edge is at `top`, the deepest point of the bottom arc at top + depth.
        radius = np.hypot(across, down + apex)
        first = np.hypot(self.half_width, apex) if self.is_top_arc else (apex / np.cos(angle))
        last = apex + self.depth if self.is_bottom_arc else (apex + self.depth) / np.cos(angle)
        depth = (radius - first) / np.maximum(last - first, 1)
        return lateral, depth


def make_screen(kind: str, seed: int, count: int = 12) -> Screen:
    """Draw the screen of a kind and seed: `count` frames."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    layout = _draw_layout(kind, rng)
    lateral, depth = layout.beams()
    area = (np.abs(lateral) <= 1) & (depth >= 0) & (depth <= 1)
    window = _draw_window(layout, area, rng) if rng.random() < 0.45 else None
    background = int(rng.choice([0, 0, 0, 1, rng.integers(2, 25), rng.integers(25, 70)]))
    # Beside a gray background the sector's own black is black, or the same gray.
    black = 0 if background > 25 and rng.random() < 0.7 else background
    frames = _draw_tissue(lateral, depth, area, black, count, rng)
    frames[:, ~area] = background
    if rng.random() < 0.15 and window is not None:  # noise of a transcoded background
        frames[:, ~area] += rng.normal(0, 1.0, (count, int((~area).sum()))).astype(np.float32)
    text = np.zeros(area.shape, bool)
    if window is None or rng.random() < 0.3:
        _draw_surroundings(frames, area, text, layout, rng)
    frames = np.clip(frames, 0, 255)
    if window is not None:
        left, top, right, bottom = window
        frames, area, text = (one[..., top:bottom, left:right] for one in (frames, area, text))
    frames, area, text = _resize(frames, area, text, rng)
    frames = np.clip(np.rint(frames), 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        frames = _compress(frames, int(rng.integers(45, 95)))
    return Screen(frames, area & ~text, text, window is not None)


def _draw_layout(kind: str, rng: np.random.Generator) -> Layout:
    width, height = [(800, 600), (960, 720), (640, 480), (1024, 600), (720, 720)][rng.integers(5)]
    top = rng.uniform(0.06, 0.16) * height
    depth = rng.uniform(0.9, 0.995) * (height - top) * rng.uniform(0.8, 1.0)
    if kind == "linear":
        half = rng.uniform(0.2, 0.42) * width
        return Layout(width, height, _axis(rng, width, half), top, half, 0.0, depth, False, False)
    if kind == "phased":
        slope, half = np.tan(rng.uniform(0.55, 0.8)), rng.uniform(1, 10)
    elif kind == "convex":
        slope, half = np.tan(rng.uniform(0.35, 0.65)), rng.uniform(0.07, 0.18) * width
    else:
        slope, half = np.tan(rng.uniform(0.1, 0.4)), rng.uniform(0.12, 0.25) * width
    flat = kind == "trapezoid"
    reach = min(half + slope * depth, 0.47 * width)
    axis = _axis(rng, width, reach)
    return Layout(width, height, axis, top, half, float(slope), depth, not flat, not flat or bool(rng.random() < 0.4))


def _axis(rng: np.random.Generator, width: int, reach: float) -> float:
    free = max(0.0, width / 2 - reach - 4)
    return width / 2 + float(rng.uniform(-1, 1)) * free


def _draw_window(layout: Layout, area: np.ndarray, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return a part of the screen such as people cut out for the web: flanks, top or bottom may be missing."""
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    width, height = right - left, bottom - top
    cuts = rng.uniform(-0.06, 0.2, 4) * np.array([width, height, width, height])
    if layout.slope > 0.3 and rng.random() < 0.6:
        cuts[[0, 2]] = rng.uniform(0.05, 0.25, 2) * width
    window = np.array([left + cuts[0], top + 0.5 * cuts[1], right - cuts[2], bottom - cuts[3]])
    limits = [layout.width, layout.height] * 2
    x0, y0, x1, y1 = (int(np.clip(value, 0, limit)) for value, limit in zip(window, limits, strict=True))
    return x0, y0, x1, y1


def _draw_tissue(
    lateral: np.ndarray,
    depth: np.ndarray,
    area: np.ndarray,
    background: int,
    count: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return gray levels [n, H, W]: texture along the beams times structures, shadows, fluid and attenuation."""
    beams, samples = 256, 384
    margin = 24
    fine = rng.rayleigh(1.0, (samples + 2 * margin, beams + 2 * margin)).astype(np.float32)
    fine = cv2.GaussianBlur(fine, (0, 0), sigmaX=rng.uniform(1.5, 3.5), sigmaY=rng.uniform(0.7, 1.4))
    fine = fine / fine.mean()
    coarse = cv2.resize(
        rng.random((int(rng.integers(4, 14)), int(rng.integers(3, 8)))).astype(np.float32), fine.shape[::-1]
    )
    gain = background + rng.uniform(45, 130) * (0.25 + 1.3 * coarse)
    for _ in range(rng.integers(0, 6)):  # bright layers: fascia, pleura, bone
        row = rng.integers(margin, samples)
        gain[row : row + rng.integers(2, 6)] += rng.uniform(50, 150)
    y, x = np.mgrid[: gain.shape[0], : gain.shape[1]].astype(np.float32)
    for _ in range(rng.integers(0, 3)):  # fluid
        centre = rng.uniform(0, gain.shape[1]), rng.uniform(0.15, 1) * samples
        inside = np.hypot((x - centre[0]) / rng.uniform(15, 60), (y - centre[1]) / rng.uniform(15, 80)) < 1
        gain[inside] *= rng.uniform(0, 0.1)
    if rng.random() < 0.25:  # black fluid near the probe
        start, end = rng.uniform(0.03, 0.12), rng.uniform(0.25, 0.45)
        gain[margin + int(start * samples) : margin + int(end * samples)] *= rng.uniform(0, 0.06)
    for _ in range(rng.integers(0, 3)):  # shadows of ribs
        column, size, row = rng.integers(margin, beams), rng.integers(10, 45), rng.integers(margin, samples // 2)
        gain[row:, column : column + size] *= rng.uniform(0, 0.15)
    position = np.linspace(-1, 1, gain.shape[1])[None, :]
    if rng.random() < 0.35:  # a flank without contact
        side, until = rng.choice([-1, 1]), rng.uniform(0.35, 0.85)
        gain = np.where(side * position > until, gain * rng.uniform(0, 0.08), gain)
    if rng.random() < 0.4:  # the depth is dark, up to a few beams
        start = margin + rng.uniform(0.45, 0.9) * samples
        fall = np.exp(-np.maximum(y - start, 0) / rng.uniform(5, 40))
        column = rng.uniform(-0.9, 0.9)
        lit = np.abs(position - column) < rng.uniform(0.1, 0.4)
        gain *= np.where(lit & (rng.random() < 0.7), 1.0, fall)
    floor = background + rng.uniform(1.5, 5) if rng.random() < 0.75 else 0.0  # noise of the receiver
    map_x = ((lateral + 1) / 2 * (beams - 1) + margin).astype(np.float32)
    map_y = (depth * (samples - 1) + margin).astype(np.float32)
    drift = rng.uniform(-1.5, 1.5, 2)
    frames = np.empty((count, *area.shape), np.float32)
    for number in range(count):
        shift = drift * number + rng.normal(0, 0.4, 2)
        texture = cv2.warpAffine(
            fine, np.float32([[1, 0, shift[0]], [0, 1, shift[1]]]), fine.shape[::-1], borderMode=cv2.BORDER_WRAP
        )
        noise = cv2.GaussianBlur(rng.normal(0, 1, gain.shape).astype(np.float32), (0, 0), 0.8)
        picture = np.maximum(gain * texture, floor + 1.5 * noise * (floor > 0))
        frames[number] = cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return frames


def _draw_surroundings(
    frames: np.ndarray, area: np.ndarray, text: np.ndarray, layout: Layout, rng: np.random.Generator
) -> None:
    """Draw text, rulers, a gray wedge, a header and a logo beside the sector, and perhaps an inset over it."""
    height, width = area.shape
    near = cv2.dilate(area.astype(np.uint8), np.ones((2 * MARGIN_PX + 1,) * 2, np.uint8)) > 0
    drawn, level = np.zeros(area.shape, np.uint8), int(rng.integers(150, 256))
    for _ in range(rng.integers(3, 18)):
        words = "".join(rng.choice(list(SYMBOLS), rng.integers(2, 14)))
        scale, stroke = rng.uniform(0.3, 0.8), int(rng.integers(1, 3))
        place = int(rng.integers(0, width - 40)), int(rng.integers(12, height))
        attempt = np.zeros_like(drawn)
        cv2.putText(attempt, words, place, cv2.FONT_HERSHEY_SIMPLEX, scale, level, stroke, cv2.LINE_AA)
        if not (attempt.astype(bool) & near).any():
            drawn = np.maximum(drawn, attempt)
    columns = np.flatnonzero(area.any(axis=0))
    for column in (4, width - 12, columns[0] - 14, columns[-1] + 8):  # rulers
        if rng.random() < 0.4 and 0 <= column < width - 8:
            step = int(rng.integers(12, 45))
            for row in range(int(layout.top), int(min(height - 3, layout.top + layout.depth)), step):
                if not near[row : row + 2, column : column + 6].any():
                    drawn[row : row + 2, column : column + 6] = level
    if rng.random() < 0.5:  # gray wedge
        top, tall, column = int(rng.integers(30, 120)), int(rng.integers(80, 220)), int(rng.choice([12, width - 30]))
        if not near[top : top + tall, column : column + 14].any():
            wedge = np.linspace(255, 8, tall)[:, None] * np.ones(14)
            place = drawn[top : top + tall, column : column + 14]
            place[:] = wedge[: place.shape[0]]
    for _ in range(rng.integers(0, 2)):  # logo
        centre, radius = (
            (int(rng.integers(20, width - 20)), int(rng.integers(20, height - 20))),
            int(rng.integers(6, 20)),
        )
        attempt = np.zeros_like(drawn)
        cv2.circle(attempt, centre, radius, level, -1)
        if not (attempt.astype(bool) & near).any():
            drawn = np.maximum(drawn, attempt)
    if rng.random() < 0.4:  # header, which may touch the sector
        rows = np.flatnonzero(area.any(axis=1))
        end = int(rows[0] - rng.choice([0, 1, 8])) if rng.random() < 0.6 else int(0.05 * height)
        start, first, last = max(0, end - int(rng.integers(16, 40))), int(rng.uniform(0, 0.3) * width), width
        if end - start > 8:
            drawn[start:end, first:last] = np.maximum(drawn[start:end, first:last], int(rng.integers(30, 110)))
            cv2.putText(drawn, "12.0cm / 1.9 / 49Hz", (first + 30, end - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 240, 1)
    text |= drawn > 0
    text &= ~area
    np.maximum(frames, drawn, out=frames, where=~area)
    if rng.random() < 0.12:  # an inset over a lower corner
        wide, tall, side = int(rng.integers(60, 120)), int(rng.integers(30, 60)), rng.random() < 0.5
        place = (slice(height - tall, height), slice(width - wide, width) if side else slice(0, wide))
        frames[(slice(None), *place)] = 0
        box = np.zeros((tall, wide), np.uint8)
        cv2.putText(box, "FL 32.3mm", (3, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 220, 1)
        frames[(slice(None), *place)] = np.maximum(frames[(slice(None), *place)], box)
        text[place] = True


def _resize(
    frames: np.ndarray, area: np.ndarray, text: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    side = int(rng.choice([150, 240, 320, 480, 640, 960]))
    scale = side / max(area.shape)
    if scale > 1:
        scale = min(scale, 1.3)
    size = max(1, round(area.shape[1] * scale)), max(1, round(area.shape[0] * scale))
    resized = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
    inside = cv2.resize(area.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
    written = cv2.resize(text.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.1
    return resized, inside, written


def _compress(frames: np.ndarray, quality: int) -> np.ndarray:
    coded = (cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for frame in frames)
    return np.stack([cv2.imdecode(one, cv2.IMREAD_GRAYSCALE) for one in coded])
