"""The screen of the scanner around the sector: vendor, settings, rulers, gray bar, cursor. All names are invented."""

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.narration.media import LIMITED_RANGE
from usvs.phantom.geometry import TOP_BAR_PIXELS, SectorGeometry
from usvs.utils.seeds import stream

MAKERS = ("Sonara", "Echolux", "Velaris", "Ultima", "Femto", "Aurigon")
PROBES = ("CX2-9", "AB1-6-D", "RM4-8", "C5-1s", "LX3-7")
MODES = ("Routine", "2+3.Trim.", "Cardiac", "OB Gen", "Fetal")
FONT = cv2.FONT_HERSHEY_SIMPLEX


class Screen:
    """Combines a rendered sector with the screen of a patient's scanner.

    Args:
        seed: the archive's seed.
        patient: number of the patient.
        sector: geometry of the sector.
    """

    def __init__(self, seed: int, patient: int, sector: SectorGeometry) -> None:
        rng = stream(seed, "patient", patient, "screen")
        self.tint: tuple[int, int] = (
            int(rng.integers(126, 134)),
            int(rng.integers(124, 130)),
        )  # chroma of the gray map
        self.still: NDArray[np.uint8] = np.zeros((sector.height, sector.width), np.uint8)
        _draw_top_bar(self.still, rng)
        _draw_side_text(self.still, rng)
        _draw_gray_bar(self.still)
        _draw_ruler(self.still, sector)
        self.mark: tuple[int, int] = (
            int(sector.apex_x - sector.inner_radius * np.sin(sector.half_angle)) - 12,
            TOP_BAR_PIXELS + 14,
        )
        cv2.circle(self.still, self.mark, 5, 150, -1, cv2.LINE_AA)

    def compose(self, sector_pixels: NDArray[np.uint8], cursor: tuple[float, float] | None) -> NDArray[np.uint8]:
        """Return the complete frame [height, width], with a cursor at pixel x, y unless it is None."""
        frame: NDArray[np.uint8] = np.maximum(self.still, sector_pixels)
        if cursor is not None:
            x, y = round(cursor[0]), round(cursor[1])
            cv2.line(frame, (x - 4, y), (x + 4, y), 220, 1)
            cv2.line(frame, (x, y - 4), (x, y + 4), 220, 1)
        return frame

    def yuv(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the frame as limited-range planar YUV 4:2:0 [height * 3 / 2, width]."""
        height, width = frame.shape
        planar = np.empty((height * 3 // 2, width), np.uint8)
        cv2.LUT(frame, LIMITED_RANGE, dst=planar[:height])
        planar[height : height * 5 // 4] = self.tint[0]
        planar[height * 5 // 4 :] = self.tint[1]
        return planar


def _text(image: NDArray[np.uint8], text: str, x: int, y: int, size: float, gray: int) -> None:
    cv2.putText(image, text, (x, y), FONT, size, gray, 1, cv2.LINE_AA)


def _draw_top_bar(image: NDArray[np.uint8], rng: np.random.Generator) -> None:
    width = image.shape[1]
    image[: TOP_BAR_PIXELS // 2] = rng.integers(16, 40)
    _text(image, str(rng.choice(MAKERS)), 4, 10, 0.34, 200)
    _text(image, f"{rng.choice(PROBES)}/OB  MI {rng.uniform(0.6, 1.1):.1f}", width // 3, 10, 0.34, 210)
    _text(image, f"{rng.uniform(8, 18):.1f}cm / {rng.integers(20, 60)}Hz", width // 3, 22, 0.32, 180)
    _text(image, f"{rng.integers(8, 18):02d}:{rng.integers(0, 60):02d}", width - 44, 10, 0.34, 200)


def _draw_side_text(image: NDArray[np.uint8], rng: np.random.Generator) -> None:
    mode, power, gain = rng.choice(MODES), rng.integers(70, 100), rng.integers(-4, 8)
    lines = (str(mode), f"Pwr {power}%", f"Gn {gain}", f"C{rng.integers(4, 9)}/M7")
    for row, line in enumerate(lines):
        _text(image, line, image.shape[1] - 58, TOP_BAR_PIXELS + 12 + 11 * row, 0.3, 150)


def _draw_gray_bar(image: NDArray[np.uint8]) -> None:
    height = image.shape[0] // 3
    image[TOP_BAR_PIXELS + 8 : TOP_BAR_PIXELS + 8 + height, 2:7] = np.linspace(255, 0, height)[:, None].astype(np.uint8)


def _draw_ruler(image: NDArray[np.uint8], sector: SectorGeometry) -> None:
    depth = sector.outer_radius - sector.inner_radius
    for tick in range(21):
        y = int(sector.apex_y + sector.inner_radius + depth * tick / 20)
        if y < sector.height:
            image[y, 12 : 17 if tick % 5 == 0 else 14] = 230
