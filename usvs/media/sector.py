"""Detection of the ultrasound sector in a video, and of the largest rectangle inside it.

Text, rulers and menus around the sector must never reach a network: the paper crops frames to the inside of the sector.

Method. `gather_evidence` marks what is active in the frames at several levels of contrast, `fit_geometry` fits two
straight edges and two curves to the outlines of these areas, and the crop is the largest rectangle in the fitted sector
that has no letters in it. The bars of a player are removed first, and of two screens side by side the left one is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from usvs.media.box import Box
from usvs.media.sector_evidence import find_insets, gather_evidence
from usvs.media.sector_fit import fit_geometry
from usvs.media.sector_geometry import Mask, SectorGeometry
from usvs.media.sector_screen import find_cut_picture, find_first_of_two, find_screen

SECTOR_RULES = 2  # changes with what `detect_sector` returns: a catalogue has its crops

NOT_FOUND = "no sector found: the whole image is kept"

MIN_SECTOR_FRACTION = 0.05  # of the image; a smaller area is not a sector
SPLIT_LEVEL = 2  # of contrast, at which two sectors side by side are apart
SURE_CONFIDENCE = 0.75  # of the first fit; with less, another background is tried
UNSURE_CONFIDENCE = 0.2  # with less, a noisy background is tried
DITHER_LEVELS = 8.0  # noise of a dithered background, as in GIF files
CUT_CONFIDENCE = 0.1  # by which a sector with black margins must be more certain than one that they cut
MIN_CROP_SIDE_PX = 16  # of the crop
CROP_MARGIN_FRACTION = 0.01  # of the crop's width and height, removed on each side


@dataclass(frozen=True)
class Sector:
    """Where the ultrasound is in the image, and the crop that a network may see.

    Attributes:
        crop_box: inscribed crop: the largest rectangle inside the sector; the whole image or region if none was found.
        note: why no sector was found; None if one was found.
        source: where the crop comes from: ``found`` by `detect_sector`, found inside the ``region`` that the file
            states, the ``manifest``, or ``whole``: nothing was found and the whole image or region is kept.
        bounds: bounding box of the sector: the region that the file states, else as detected; None if unknown.
        geometry: edges and curves of the sector as detected; None if unknown.
        confidence: fraction of the visible outline that is seen in the pixels, 0 .. 1; 0 if no sector was found.
    """

    crop_box: Box
    note: str | None
    source: Literal["found", "region", "manifest", "whole"] = "found"
    bounds: Box | None = None
    geometry: SectorGeometry | None = None
    confidence: float = 0.0


def detect_sector(frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], region: Box | None = None) -> Sector:
    """Detect the sector and the largest rectangle inside it.

    Args:
        frames: gray frames spread over one scan [n, H, W]; one frame is enough, 24 are better.
        region: where the file itself states the ultrasound image; pixels outside of it are ignored.

    Returns:
        The sector; its `note` is the reason if none was found.
    """
    frames = np.asarray(frames)
    if region is not None:
        return _detect_in_region(frames, region)
    highest, lowest = frames.max(axis=0), frames.min(axis=0)
    if (screen := find_screen(highest, lowest)) is not None:
        return _detect_in_part(frames, screen)
    if (picture := find_cut_picture(highest, lowest)) is not None:
        inside = _detect_in_part(frames, picture)
        if inside.confidence > SURE_CONFIDENCE:
            return inside
        complete = _detect_in_image(frames)  # the cuts may be edges of a linear sector
        return complete if complete.confidence > inside.confidence + CUT_CONFIDENCE else inside
    return _detect_in_image(frames)


def _detect_in_image(frames: NDArray[np.uint8]) -> Sector:
    height, width = frames.shape[1:]
    full_image = Box(0, 0, width, height)
    fits = []
    for evidence in gather_evidence(frames):
        if (columns := find_first_of_two(evidence.masks[SPLIT_LEVEL])) is not None:
            return _detect_in_part(frames, Box(0, 0, columns[1] * evidence.factor, height))
        if (fit := fit_geometry(evidence)) is not None:
            fits.append((fit, evidence))
            if fit.confidence > SURE_CONFIDENCE:
                break  # another gray level cannot be the background
    if fits and max(fit.confidence for fit, _ in fits) < UNSURE_CONFIDENCE:
        noisy = gather_evidence(frames, DITHER_LEVELS)
        fits += [
            (fit, evidence)
            for evidence in noisy
            if (fit := fit_geometry(evidence)) is not None and fit.confidence > UNSURE_CONFIDENCE
        ][:1]
    if not fits:
        return Sector(full_image, NOT_FOUND, "whole")
    fit, evidence = max(fits, key=lambda one: (one[0].confidence > UNSURE_CONFIDENCE, one[0].score))
    reduced = fit.geometry.scaled(1 / evidence.factor).draw_mask(*evidence.text.shape)
    if reduced.mean() < MIN_SECTOR_FRACTION:
        return Sector(full_image, NOT_FOUND, "whole")
    within = bounding_box(reduced)
    within.crop(reduced)[find_insets(within.crop(evidence.plain))] = False
    crop_box = _scale_crop(find_inscribed_box(reduced & ~evidence.text), evidence.factor)
    if min(crop_box.width, crop_box.height) < MIN_CROP_SIDE_PX:
        return Sector(full_image, "the sector found is too narrow for a crop: the whole image is kept", "whole")
    bounds = bounding_box(fit.geometry.draw_mask(height, width))
    return Sector(crop_box, None, "found", bounds, fit.geometry, fit.confidence)


def _detect_in_part(frames: NDArray[np.uint8], part: Box) -> Sector:
    inner = detect_sector(frames[:, part.top : part.bottom, part.left : part.right])
    return replace(
        inner,
        crop_box=inner.crop_box.translate(part.left, part.top),
        bounds=None if inner.bounds is None else inner.bounds.translate(part.left, part.top),
        geometry=None if inner.geometry is None else inner.geometry.moved(part.left, part.top),
    )


def _detect_in_region(frames: NDArray[np.uint8], region: Box) -> Sector:
    inner = _detect_in_part(frames, region)
    # The bounds are as the file states them. A region may hold black corners and letters, so the crop is detected.
    stated = replace(inner, bounds=region)
    if inner.source == "whole":
        return replace(stated, note="no sector found inside the region that the file states: the region is kept")
    return replace(stated, source="region")


def find_inscribed_box(mask: Mask) -> Box:
    """Return the largest rectangle all of whose pixels are in the mask; of equal ones the topmost, then the leftmost.

    For each pixel, take the vertical run of mask pixels that ends there, and widen it as far as its narrowest row
    allows. The largest rectangle is one of these. Running maxima and minima down the columns, restarted below every
    pixel outside of the mask, compute all of them at once in O(H W).
    """
    if not mask.any():
        return Box(0, 0, 0, 0)
    height, width = mask.shape
    rows, columns = np.arange(1, height + 1, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)[None, :]
    run_height = rows - np.maximum.accumulate(np.where(mask, 0, rows), axis=0)
    left = np.maximum.accumulate(np.where(mask, 0, columns + 1), axis=1)  # of the horizontal run in this row
    right = np.minimum.accumulate(np.where(mask, width, columns)[:, ::-1], axis=1)[:, ::-1]
    # An offset larger than the width, added at each pixel outside, separates the vertical runs of a column.
    offset = (width + 1) * np.cumsum(~mask, axis=0, dtype=np.int32)
    left = np.maximum.accumulate(np.where(mask, left, 0) + offset, axis=0) - offset
    right = np.minimum.accumulate(np.where(mask, right, width) - offset, axis=0) + offset
    area = run_height * (right - left)
    bottom, column = np.nonzero(area == area.max())
    top = bottom + 1 - run_height[bottom, column]
    candidates = np.stack([left[bottom, column], top, right[bottom, column], bottom + 1])
    return Box(*candidates[:, np.lexsort((candidates[1], candidates[2], candidates[3]))[0]].tolist())


def bounding_box(mask: Mask) -> Box:
    """Return the smallest box that holds all pixels of a mask, which must have some."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _scale_crop(box: Box, factor: int) -> Box:
    x_margin, y_margin = CROP_MARGIN_FRACTION * box.width, CROP_MARGIN_FRACTION * box.height
    return Box(
        int(np.ceil((box.left + x_margin) * factor)),
        int(np.ceil((box.top + y_margin) * factor)),
        int(np.floor((box.right - x_margin) * factor)),
        int(np.floor((box.bottom - y_margin) * factor)),
    )
