"""Two figures of a phantom archive: its planes next to real ones, and part of its narration with the ground truth."""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.archive.labels import STANDARD_PLANES
from usvs.errors import DataError
from usvs.media.audio import read_audio
from usvs.media.video import iter_gray_frames
from usvs.narration.narration import CHATTER, GROUND_TRUTH_HZ, SILENCE
from usvs.narration.new_archive import ground_truth_folder
from usvs.phantom.ground_truth import ScanGroundTruth, read_ground_truth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCANS_SHOWN = 4
SHOWN_SECONDS = 20.0
RATE_HZ = 24_000
WINDOW, HOP = 240, 120  # 10 ms and 5 ms, as for the speech encoder
TILE = (400, 320)


def save_phantom_pictures(archive: Path, out: Path, real: Path | None = None) -> tuple[Path, Path]:
    """Write `planes.png` and `narration.png` to the folder `out`.

    Args:
        archive: a phantom archive with its ground truth.
        out: created if it does not exist.
        real: folder of real standard planes (.png) to show below the phantom's.

    Raises:
        DataError: if the archive has no ground truth, or `real` contains no .png file.
    """
    scans = _scans(archive)
    out.mkdir(parents=True, exist_ok=True)
    planes, narration = out / "planes.png", out / "narration.png"
    _save_planes(scans, real, planes)
    _save_narration(*scans[0], narration)
    return planes, narration


def _scans(archive: Path) -> list[tuple[Path, ScanGroundTruth]]:
    folder = ground_truth_folder(archive.absolute())
    files = sorted(folder.rglob("*.npz"))
    if not files:
        raise DataError(f"no ground truth in '{folder}': expected an archive made by 'usvs phantom'")
    chosen = files[:: max(1, len(files) // SCANS_SHOWN)][:SCANS_SHOWN]
    return [(archive / file.relative_to(folder).with_suffix(".mp4"), read_ground_truth(file)) for file in chosen]


def _save_planes(scans: list[tuple[Path, ScanGroundTruth]], real: Path | None, file: Path) -> None:
    from matplotlib.figure import Figure

    tiles = [(f"phantom: {name}", frame) for name, frame in _frame_of_each_plane(scans).items()]
    tiles += [] if real is None else _real_tiles(real)
    columns = 5
    rows = -(-len(tiles) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.3 * rows), layout="constrained", facecolor="white")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, (title, frame) in zip(grid, tiles, strict=False):
        axes.imshow(cv2.resize(frame, TILE, interpolation=cv2.INTER_AREA), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=9)
    figure.savefig(file, dpi=110)


def _frame_of_each_plane(scans: list[tuple[Path, ScanGroundTruth]]) -> dict[str, NDArray[np.uint8]]:
    """Return a frame from the middle of a visit to each plane, taken from the scans in turn."""
    frames_to_read: dict[int, dict[int, int]] = {}
    for plane in range(len(STANDARD_PLANES)):
        holders = [number for number, (_, ground_truth) in enumerate(scans) if (ground_truth.plane == plane).any()]
        if holders:
            number = holders[plane % len(holders)]
            frames_to_read.setdefault(number, {})[_middle_of_longest_run(scans[number][1].plane == plane)] = plane
    found: dict[int, NDArray[np.uint8]] = {}
    for number, frames in frames_to_read.items():
        for index, (_, gray) in enumerate(iter_gray_frames(scans[number][0])):
            if index in frames:
                found[frames[index]] = gray
    return {STANDARD_PLANES[plane]: found[plane] for plane in sorted(found)}


def _middle_of_longest_run(mask: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    starts, stops = edges[::2], edges[1::2]
    longest = int(np.argmax(stops - starts))
    return int(starts[longest] + stops[longest]) // 2


def _real_tiles(folder: Path) -> list[tuple[str, NDArray[np.uint8]]]:
    files = sorted(folder.glob("*.png"))
    if not files:
        raise DataError(f"folder '{folder}': expected .png files, got none")
    pictures = [(file.stem, cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)) for file in files]
    return [(f"real: {stem}", np.asarray(picture, np.uint8)) for stem, picture in pictures if picture is not None]


def _save_narration(video: Path, ground_truth: ScanGroundTruth, file: Path) -> None:
    from matplotlib.figure import Figure

    sound = read_audio(video, None, RATE_HZ)
    begin = _most_spoken_stretch(ground_truth.speech)
    stop = min(begin + SHOWN_SECONDS, len(ground_truth.speech) / GROUND_TRUTH_HZ)
    piece = sound[round(begin * RATE_HZ) : round(stop * RATE_HZ)]
    figure = Figure(figsize=(13, 6), layout="constrained", facecolor="white")
    wave, spectrum, strip = figure.subplots(3, 1, sharex=True, height_ratios=(1, 2, 1))
    wave.plot(begin + np.arange(len(piece)) / RATE_HZ, piece, linewidth=0.3, color="#2a6fa8")
    wave.set_ylabel("amplitude")
    spectrum.imshow(
        _log_power(piece), origin="lower", aspect="auto", cmap="magma", extent=(begin, stop, 0, RATE_HZ / 2000)
    )
    spectrum.set_ylabel("kHz")
    _draw_ground_truth(strip, ground_truth, begin, stop)
    strip.set_xlabel("seconds")
    strip.set_xlim(begin, stop)
    figure.savefig(file, dpi=110)


def _most_spoken_stretch(speech: NDArray[np.bool_]) -> float:
    """Return the start in seconds of the interval with the most speech."""
    length = min(round(SHOWN_SECONDS * GROUND_TRUTH_HZ), len(speech))
    sums = np.concatenate([[0], np.cumsum(speech)])
    return float(np.argmax(sums[length:] - sums[:-length])) / GROUND_TRUTH_HZ


def _log_power(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    windows = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), 512, axis=1)) ** 2
    return np.asarray(np.log(power + 1e-6).T, np.float32)


def _draw_ground_truth(axes: "Axes", ground_truth: ScanGroundTruth, begin: float, stop: float) -> None:
    """Draw three strips: speech, the plane spoken of, the plane on the screen."""
    tick = slice(round(begin * GROUND_TRUTH_HZ), round(stop * GROUND_TRUTH_HZ))
    shown = (ground_truth.frame_seconds >= begin) & (ground_truth.frame_seconds < stop)
    _strip(axes, 2, ground_truth.speech[tick].astype(np.int64) - 1, begin, 1 / GROUND_TRUTH_HZ, {0: "speech"})
    names: dict[int, str] = {CHATTER: "other", **dict(enumerate(STANDARD_PLANES))}
    _strip(axes, 1, ground_truth.topic[tick], begin, 1 / GROUND_TRUTH_HZ, names)
    _strip(axes, 0, ground_truth.plane[shown], begin, float(np.diff(ground_truth.frame_seconds).mean()), names)
    axes.set_yticks([0.4, 1.4, 2.4], ["on screen", "spoken of", "speech"])
    axes.set_ylim(0, 3)


def _strip(axes: "Axes", row: int, values: NDArray[Any], begin: float, step: float, names: dict[int, str]) -> None:
    import matplotlib

    colours = matplotlib.colormaps["rainbow"]
    edges = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [len(values)]])
    for first, last in pairwise(edges.tolist()):
        value = int(values[first])
        if value == SILENCE:
            continue
        colour = colours(value / len(STANDARD_PLANES)) if value >= 0 else "#cccccc"
        axes.broken_barh([(begin + first * step, (last - first) * step)], (row, 0.8), facecolors=colour, alpha=0.7)
        if (last - first) * step > 0.6 and row < 2:
            axes.text(begin + (first + last) / 2 * step, row + 0.4, names[value], ha="center", va="center", fontsize=7)
