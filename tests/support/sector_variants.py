"""Further synthetic screens: what `sector_screens` draws, as players, scanners and people change it.

``wide``: a wide convex sector that the screen cuts at both sides, with text and a panel over a corner. ``letterbox``:
black or gray bars around the screen, with a logo on one. ``doppler``: a colour box over the tissue, seen as gray.
``curve``: a gain curve and a colour bar beside the sector, and calipers inside of it. ``split``: the screen twice, side
by side; either sector is right. What is drawn depends on the kind and the seed alone.
"""

from dataclasses import replace

import cv2
import numpy as np

from tests.support.sector_screens import (
    KINDS,
    MARGIN_PX,
    Layout,
    Screen,
    _compress,
    _draw_surroundings,
    _draw_tissue,
    make_screen,
)

VARIANTS = ("wide", "letterbox", "doppler", "curve", "split")


def make_variant(variant: str, seed: int) -> Screen:
    """Draw the screen of a variant and seed."""
    rng = np.random.default_rng([100 + VARIANTS.index(variant), seed])
    if variant == "wide":
        return _make_wide(rng)
    screen = make_screen(KINDS[int(rng.integers(len(KINDS)))], 50_000 + seed)
    draw = {"letterbox": _add_bars, "doppler": _add_colour_box, "curve": _add_curve, "split": _double}[variant]
    changed = draw(screen, rng)
    return replace(changed, frames=_compress(changed.frames, 90))


def _make_wide(rng: np.random.Generator) -> Screen:
    width, height = [(800, 600), (960, 720), (1024, 600)][rng.integers(3)]
    top, slope = rng.uniform(0.06, 0.12) * height, float(np.tan(rng.uniform(0.8, 1.0)))
    half = rng.uniform(0.12, 0.22) * width
    depth = rng.uniform(0.92, 1.08) * (height - top)
    layout = Layout(width, height, width / 2 + float(rng.uniform(-20, 20)), top, half, slope, depth, False, True)
    lateral, beam = layout.beams()
    area = (np.abs(lateral) <= 1) & (beam >= 0) & (beam <= 1)
    first, last = int(rng.uniform(0, 0.12) * width), int(rng.uniform(0.88, 1.0) * width)
    area[:, :first] = area[:, last:] = False
    frames = _draw_tissue(lateral, beam, area, 0, 12, rng)
    frames[:, ~area] = 0
    text = np.zeros(area.shape, bool)
    _draw_surroundings(frames, area, text, layout, rng)
    if rng.random() < 0.5:
        tall, wide = int(rng.uniform(0.08, 0.2) * height), int(rng.uniform(0.1, 0.25) * (last - first))
        panel = (
            slice(height - tall, None),
            slice(first, first + wide) if rng.random() < 0.5 else slice(last - wide, last),
        )
        frames[:, panel[0], panel[1]] = 0
        text[panel] = True
    pictures = _compress(np.clip(np.rint(frames), 0, 255).astype(np.uint8), int(rng.integers(60, 95)))
    return Screen(pictures, area & ~text, text, True)


def _add_bars(screen: Screen, rng: np.random.Generator) -> Screen:
    height, width = screen.area.shape
    tall, wide = (int(side * rng.uniform(0.05, 0.2)) for side in (height, width))
    sides = ((tall, tall), (0, 0)) if rng.random() < 0.5 else ((0, 0), (wide, wide))
    level = int(rng.choice([0, 0, 16, 40]))
    frames = np.stack([np.pad(frame, sides, constant_values=level) for frame in screen.frames])
    area, text = np.pad(screen.area, sides), np.pad(screen.text, sides)
    if min(tall, wide) > 20 and rng.random() < 0.5:
        logo = np.zeros(area.shape, np.uint8)
        cv2.putText(logo, "CASE 12", (4, area.shape[0] - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.35, 220, 1, cv2.LINE_AA)
        logo[area | np.pad(np.ones(screen.area.shape, bool), sides)] = 0
        frames, text = np.maximum(frames, logo), text | (logo > 0)
    return replace(screen, frames=frames, area=area, text=text)


def _add_colour_box(screen: Screen, rng: np.random.Generator) -> Screen:
    """Draw flow of changing brightness in a part of the sector, and a thin frame around it."""
    height, width = screen.area.shape
    inside = cv2.distanceTransform(screen.area.astype(np.uint8), cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    reach = max(6, int(inside.max() * rng.uniform(0.4, 0.9)))
    box = (slice(max(0, row - reach), row + reach), slice(max(0, column - reach), column + reach))
    frames = screen.frames.copy()
    for frame in frames:
        blobs = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 5)
        flow = (blobs > 0.06)[box] & screen.area[box]
        frame[box][flow] = np.clip(90 + 600 * blobs[box][flow], 0, 255).astype(np.uint8)
        outline = np.zeros(frame.shape, np.uint8)
        corners = (int(column - reach), int(row - reach)), (int(column + reach), int(row + reach))
        cv2.rectangle(outline, *corners, 230, 1)
        frame[(outline > 0) & screen.area] = 230
    return replace(screen, frames=frames)


def _add_curve(screen: Screen, rng: np.random.Generator) -> Screen:
    """Draw a gain curve and a colour bar beside the sector, as far as there is room, and calipers inside of it."""
    height, width = screen.area.shape
    near = cv2.dilate(screen.area.astype(np.uint8), np.ones((2 * MARGIN_PX + 1,) * 2, np.uint8)) > 0
    drawn = np.zeros((height, width), np.uint8)
    rows = np.arange(int(0.1 * height), int(0.9 * height))
    for side in (0.04, 0.95):
        wave = side * width + 0.02 * width * np.sin(rows / height * rng.uniform(3, 9))
        line = np.stack([wave, rows], axis=1).astype(np.int32)
        attempt = np.zeros_like(drawn)
        cv2.polylines(attempt, [line], False, 200, 1, cv2.LINE_AA)
        bar = slice(int(0.3 * height), int(0.6 * height)), slice(int((side - 0.01) * width), int((side + 0.02) * width))
        if rng.random() < 0.5:
            attempt[:] = 0
            attempt[bar] = np.abs(np.linspace(-255, 255, bar[0].stop - bar[0].start))[:, None].astype(np.uint8)
        if not (near & (attempt > 0)).any():
            drawn = np.maximum(drawn, attempt)
    frames = np.maximum(screen.frames, drawn)
    points = np.argwhere(screen.area)
    for row, column in points[rng.integers(len(points), size=2)]:
        for frame in frames:
            cv2.drawMarker(frame, (int(column), int(row)), 255, cv2.MARKER_CROSS, 7, 1)
    frames[:, ~screen.area] = np.maximum(screen.frames, drawn)[:, ~screen.area]
    return replace(screen, frames=frames, text=screen.text | (drawn > 0))


def _double(screen: Screen, rng: np.random.Generator) -> Screen:
    gap = np.zeros((len(screen.frames), screen.area.shape[0], int(rng.integers(4, 30))), np.uint8)
    other = np.roll(screen.frames, 3, axis=0)
    blank = np.zeros(gap.shape[1:], bool)
    return replace(
        screen,
        frames=np.concatenate([screen.frames, gap, other], axis=2),
        area=np.concatenate([screen.area, blank, screen.area], axis=1),
        text=np.concatenate([screen.text, blank, screen.text], axis=1),
    )
