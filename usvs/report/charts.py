"""Charts as inline SVG: their colours are those of the stylesheet, so that they follow the light or dark scheme.

A chart states its ranges in the attributes ``data-x`` and ``data-y``, so that its values can be read back.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usvs.report.elements import element, short

WIDTH, HEIGHT = 320, 176  # px of a line chart, about as wide as a telephone
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 8, 22
LETTER = 5.8  # px, mean width of a letter
MAX_NAME_LETTERS = 44
TICKS = (1.0, 2.0, 2.5, 5.0, 10.0)
ROW_HEIGHT, ROW_WIDTH = 40, 320
MAP_WIDTH, MAP_HEIGHT = 360, 300


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: in the attribute ``data-series``, and for readers of the screen.
        kind: class in the stylesheet: ``training``, ``unseen``, ``second`` or ``chance``.
        x: [n] increasing.
        y: [n]; where a value is not finite the line is interrupted.
        dots: whether each value has a dot.
    """

    name: str
    kind: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False


class Scale(NamedTuple):
    """A linear scale from values `low` .. `high` to pixels `first` .. `last`."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)


def line_chart(lines: Sequence[Line], label: str, zero: bool = False) -> Element:
    """Draw lines over updates.

    Args:
        lines: at least one.
        label: what the chart shows, for readers of the screen.
        zero: whether the values begin at 0.
    """
    across = [float(x) for line in lines for x in line.x]
    values = [float(y) for line in lines for y in line.y if math.isfinite(y)]
    low, high, ticks = _rounded_range(min(values, default=0.0), max(values, default=1.0), zero)
    x_scale = Scale(*_widened(min(across, default=0.0), max(across, default=1.0)), LEFT, WIDTH - RIGHT)
    y_scale = Scale(low, high, HEIGHT - BOTTOM, TOP)
    parts = []
    for tick in ticks:
        y = y_scale(tick)
        parts.append(element("line", {"class": "grid", "x1": LEFT, "x2": WIDTH - RIGHT, "y1": y, "y2": y}))
        parts.append(_text(LEFT - 6, y + 3.5, _tick_text(tick, ticks), "end"))
    for value, anchor in ((x_scale.low, "start"), (x_scale.high, "end")):
        parts.append(_text(x_scale(value), HEIGHT - 6, f"{value:,.0f}", anchor))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "updates", "middle"))
    for line in lines:
        parts += _draw_line(line, x_scale, y_scale)
    ranges = {"data-x": f"{x_scale.low!r} {x_scale.high!r}", "data-y": f"{low!r} {high!r}"}
    return _picture(label, WIDTH, HEIGHT, parts, ranges)


def score_chart(rows: Sequence[tuple[str, Sequence[float]]], chance: float | None, label: str) -> Element:
    """Draw a row for each name: every value as a dot, and their mean as a bar from 0, on a scale of 0 to 100 %.

    Args:
        rows: names, and values from 0 to 1.
        chance: of a random choice, 0 to 1; a dotted line.
        label: what the chart shows.
    """
    scale = Scale(0.0, 1.0, 1.0, ROW_WIDTH - 12.0)
    height = ROW_HEIGHT * len(rows) + 22
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = scale(tick)
        parts.append(element("line", {"class": "grid", "x1": x, "x2": x, "y1": 16, "y2": height - 18}))
        anchor = {0.0: "start", 1.0: "end"}.get(tick, "middle")
        parts.append(_text(x + (11 if tick == 1.0 else 0), height - 5, f"{100 * tick:.0f} %", anchor))
    for number, (name, values) in enumerate(rows):
        top = ROW_HEIGHT * number
        mean = float(np.mean(values))
        parts.append(_text(1, top + 13, f"{_cut(name)}  {100 * mean:.1f} %", "start", "strong"))
        bar = {"class": "bar", "x": 1, "y": top + 19, "width": scale(mean) - 1, "height": 12}
        parts.append(element("rect", bar, element("title", {}, f"{name}: mean {100 * mean:.1f} %")))
        parts += [
            element(
                "circle", {"class": "point", "cx": scale(value), "cy": top + 25, "r": 2.4, "data-value": repr(value)}
            )
            for value in values
        ]
    if chance is not None:
        x = scale(chance)
        parts.append(element("line", {"class": "chance", "x1": x, "x2": x, "y1": 16, "y2": height - 18}))
    return _picture(label, ROW_WIDTH, height, parts)


def map_chart(
    points: NDArray[np.floating], is_speech: NDArray[np.bool_], colours: Sequence[str], names: Sequence[str], label: str
) -> Element:
    """Draw a map of embeddings: a disc for each frame, a cross for each piece of speech.

    Args:
        points: [n, 2] of any scale.
        is_speech: [n].
        colours: of each point, ``#rrggbb``.
        names: of each point, shown when it is pointed at.
        label: what the chart shows.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    placed = (points - low) / np.where(high > low, high - low, 1.0) * (MAP_WIDTH - 16, MAP_HEIGHT - 16) + 8
    parts = []
    for (x, y), speech, colour, name in zip(placed.tolist(), is_speech.tolist(), colours, names, strict=True):
        title = element("title", {}, name)
        if speech:
            cross = f"M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6"
            parts.append(element("path", {"d": cross, "stroke": colour, "stroke-width": 1.6, "fill": "none"}, title))
        else:
            parts.append(element("circle", {"cx": x, "cy": y, "r": 3.6, "fill": colour, "fill-opacity": 0.85}, title))
    return _picture(label, MAP_WIDTH, MAP_HEIGHT, parts)


def blocks_strip(edges: ArrayLike, colours: Sequence[str | None], names: Sequence[str], seconds: float) -> Element:
    """Draw intervals of a scan as coloured blocks, which fill the width that they are given.

    Args:
        edges: [n, 2] start and end of each block in seconds.
        colours: of the blocks; None: no label.
        names: of the blocks, shown when they are pointed at.
        seconds: length of the scan.
    """
    parts = []
    for (start, end), colour, name in zip(np.asarray(edges, np.float64).tolist(), colours, names, strict=True):
        place = {"x": 1000 * start / seconds, "width": 1000 * (end - start) / seconds, "y": 0, "height": 20}
        look = {"class": "silent"} if colour is None else {"fill": colour}
        title = element("title", {}, f"{name}, {start:.1f} to {end:.1f} s")
        parts.append(element("rect", {**place, **look}, title))
    return _strip(parts, 20)


def bars_strip(starts: ArrayLike, length: float, fractions: ArrayLike, seconds: float) -> Element:
    """Draw a fraction, 0 to 1, of each part of a scan as a bar; NaN where it is not known.

    Args:
        starts: [n] of the parts in seconds.
        length: of a part in seconds.
        fractions: [n].
        seconds: length of the scan.
    """
    parts = [element("rect", {"class": "silent", "x": 0, "y": 39, "width": 1000, "height": 1})]
    for start, fraction in zip(np.asarray(starts).tolist(), np.asarray(fractions).tolist(), strict=True):
        if math.isfinite(fraction) and start < seconds:
            width = min(length, seconds - start)
            place = {"x": 1000 * start / seconds + 1, "width": max(1000 * width / seconds - 2, 1)}
            place |= {"y": 40 - 40 * fraction, "height": 40 * fraction}
            title = element("title", {}, f"{start:.0f} s: {100 * fraction:.0f} % speech")
            parts.append(element("rect", {"class": "bar", "data-value": repr(fraction), **place}, title))
    return _strip(parts, 40)


def lines_strip(seconds_of: ArrayLike, lines: Sequence[tuple[str, ArrayLike]], seconds: float) -> Element:
    """Draw values from 0 (top) to 1 (bottom) over the time of a scan.

    Args:
        seconds_of: [n] times.
        lines: class in the stylesheet and values [n] of each line; NaN where there is none.
        seconds: length of the scan.
    """
    times = 1000 * np.asarray(seconds_of, np.float64) / seconds
    parts = []
    for kind, values in lines:
        for part in _finite_runs(times, 40 * np.clip(np.asarray(values, np.float64), 0, 1)):
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in part)
            parts.append(element("polyline", {"class": kind, "points": points, "vector-effect": "non-scaling-stroke"}))
    return _strip(parts, 40)


def legend(entries: Sequence[tuple[str, Element]]) -> Element:
    """Return a legend: a sample of each mark with its name."""
    return element(
        "ul", {"class": "legend"}, *(element("li", {}, mark, element("span", {}, name)) for name, mark in entries)
    )


def line_mark(kind: str) -> Element:
    """Return a sample of a line for a legend."""
    return _mark(element("line", {"class": kind, "x1": 0, "x2": 24, "y1": 6, "y2": 6}))


def colour_mark(colour: str | None) -> Element:
    """Return a sample of a colour for a legend; None: no label."""
    look = {"class": "silent"} if colour is None else {"fill": colour}
    return _mark(element("rect", {"x": 6, "y": 0, "width": 12, "height": 12, "rx": 2, **look}))


def shape_mark(is_speech: bool) -> Element:
    """Return a sample of a frame's or a piece of speech's point on a map."""
    if is_speech:
        return _mark(element("path", {"d": "M9 3l6 6m0 -6l-6 6", "class": "outline"}))
    return _mark(element("circle", {"cx": 12, "cy": 6, "r": 3.6, "class": "outline"}))


def _draw_line(line: Line, x_scale: Scale, y_scale: Scale) -> Iterator[Element]:
    pixels = [x_scale(float(x)) for x in line.x], [y_scale(float(y)) for y in line.y]
    for part in _finite_runs(*map(np.asarray, pixels)):
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y in part)
        # the dots of each line begin at the left edge, so that two lines at one level do not fill each other's gaps
        look = {"class": line.kind, "stroke-dashoffset": part[0][0] if line.kind == "chance" else None}
        yield element("polyline", {**look, "points": points, "data-series": line.name})
    if line.dots:
        for x, y, value in zip(*pixels, line.y, strict=True):
            if math.isfinite(y):
                yield element("circle", {"class": f"{line.kind}-dot", "cx": x, "cy": y, "r": 2.6}, _title(line, value))


def _title(line: Line, value: float) -> Element:
    return element("title", {}, f"{line.name} {short(value)}")


def _finite_runs(x: NDArray[np.floating], y: NDArray[np.floating]) -> Iterator[list[tuple[float, float]]]:
    run: list[tuple[float, float]] = []
    for across, down in zip(x.tolist(), y.tolist(), strict=True):
        if math.isfinite(down):
            run.append((across, down))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _rounded_range(low: float, high: float, zero: bool) -> tuple[float, float, list[float]]:
    """Return a range that holds the values and begins and ends at a round number, and three to six ticks."""
    low, high = _widened(min(low, 0.0) if zero else low, high)
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in TICKS if power * factor >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return first * step, last * step, [number * step for number in range(first, last + 1)]


def _widened(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5))


def _tick_text(value: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0]
    if max(map(abs, ticks)) < 0.01 or max(map(abs, ticks)) >= 1e5:
        return "0" if value == 0 else f"{value:.3g}"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    needs_one_more = abs(step * 10**digits - round(step * 10**digits)) > 1e-6  # 0.25, 2.5
    return f"{value:,.{digits + needs_one_more}f}"


def _cut(name: str) -> str:
    return name if len(name) <= MAX_NAME_LETTERS else f"{name[: MAX_NAME_LETTERS - 3]}..."


def _text(x: float, y: float, text: str, anchor: str, kind: str | None = None) -> Element:
    return element("text", {"x": x, "y": y, "text-anchor": anchor, "class": kind}, text)


def _picture(
    label: str, width: float, height: float, parts: Sequence[Element], more: dict[str, str] | None = None
) -> Element:
    frame = {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": label}
    return element("svg", {**frame, **(more or {})}, *parts)


def _strip(parts: Sequence[Element], height: int) -> Element:
    frame = {"viewBox": f"0 0 1000 {height}", "preserveAspectRatio": "none", "aria-hidden": "true"}
    return element("svg", frame, *parts)


def _mark(shape: Element) -> Element:
    return element("svg", {"viewBox": "0 0 24 12", "aria-hidden": "true"}, shape)
