"""Small pictures inside a page: frames, spectrograms and overlays as data URIs."""

import base64
from xml.etree.ElementTree import Element

import cv2
import numpy as np
import simplejpeg
from numpy.typing import ArrayLike, NDArray

from usvs.report.elements import element

MAX_SIDE = 160  # px of a frame in a page
QUALITY = 80
LOWEST_PERCENT, HIGHEST_PERCENT = 2.0, 99.5  # of a spectrogram's values, black and white
OVERLAY = 0.55  # opacity of a density at its maximum


def picture(pixels: NDArray[np.uint8], text: str, max_side: int = MAX_SIDE) -> Element:
    """Return an image element.

    Args:
        pixels: gray [h, w], or RGB [h, w, 3].
        text: what is seen, for readers of the screen.
        max_side: a larger picture is reduced to it.
    """
    height, width = pixels.shape[:2]
    if (scale := max_side / max(height, width)) < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        height, width = pixels.shape[:2]
    colours = np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[..., None])
    space = "RGB" if pixels.ndim == 3 else "GRAY"
    content = simplejpeg.encode_jpeg(colours, QUALITY, space, "444" if space == "RGB" else "gray")
    source = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    return element("img", {"src": source, "alt": text, "width": width, "height": height, "decoding": "async"})


def spectrogram_pixels(log_power: ArrayLike) -> NDArray[np.uint8]:
    """Return a spectrogram [bands, time] as gray levels with the lowest band at the bottom."""
    values = np.asarray(log_power, np.float64)
    low, high = np.percentile(values, [LOWEST_PERCENT, HIGHEST_PERCENT])
    scaled = (values - low) / max(high - low, 1e-6)
    return np.ascontiguousarray((255 * np.clip(scaled, 0, 1)).round().astype(np.uint8)[::-1])


def coloured(gray: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return gray levels [h, w] in the colours of spectrograms, resized to [height, width, 3] RGB."""
    resized = cv2.resize(gray, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.applyColorMap(resized, cv2.COLORMAP_INFERNO)[..., ::-1], np.uint8)


def overlay(frame: ArrayLike, density: ArrayLike) -> NDArray[np.uint8]:
    """Return a frame [P, P] of any scale with a density [h, w] over it, scaled to its own maximum: RGB [P, P, 3]."""
    gray = unit_range(frame)
    values = np.asarray(density, np.float64)
    resized = cv2.resize(values / max(float(values.max()), 1e-12), gray.shape[::-1], interpolation=cv2.INTER_LINEAR)
    peak = np.asarray(resized, np.float64)
    colours = cv2.applyColorMap((255 * np.clip(peak, 0, 1)).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1] / 255
    opacity = OVERLAY * np.clip(peak, 0, 1)[..., None] ** 0.5
    mixed = gray[..., None] * (1 - opacity) + colours * opacity
    return np.asarray((255 * mixed).round(), np.uint8)


def unit_range(frame: ArrayLike) -> NDArray[np.float64]:
    """Return pixels of any scale from 0 to 1."""
    values = np.asarray(frame, np.float64)
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def gray_levels(frame: ArrayLike) -> NDArray[np.uint8]:
    """Return pixels of any scale as gray levels."""
    return np.asarray((255 * unit_range(frame)).round(), np.uint8)
