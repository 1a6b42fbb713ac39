"""Rendering of frames: beams, attenuation, point spread, log compression and scan conversion."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.phantom.canvas import map_scale_and_origin
from usvs.phantom.geometry import BEAMS, SAMPLES, FloatArray, SectorGeometry
from usvs.phantom.transducer import Pose
from usvs.utils.seeds import stream

NEAR_SAMPLES = 44  # depth of the maternal skin, fat and muscle below the transducer
MAX_ATTENUATION_NEPERS = 6.0  # a stronger attenuation is black anyway


@dataclass(frozen=True)
class ScannerSettings:
    """Settings of a patient's scanner."""

    axial_sigma: float  # of the point spread, in samples
    lateral_sigma: float  # in beams
    dynamic_range_db: float
    gain_db: float  # of soft tissue above black
    depth_gain_db: FloatArray  # [SAMPLES, 1]
    noise: float  # amplitude of the receiver's noise; soft tissue is 1
    persistence: float  # weight of the previous frame


@dataclass(frozen=True)
class TransducerContact:
    """Contact of the transducer with the skin during one visit."""

    gain_db: float
    beam_gain: FloatArray  # [1, BEAMS]: dark stripes where ribs, gas or a lifted edge block the beam


def draw_scanner(seed: int, patient: int) -> ScannerSettings:
    """Draw the settings of a patient's scanner."""
    rng = stream(seed, "patient", patient, "machine")
    depth = np.linspace(0, 1, SAMPLES)
    focus = rng.uniform(0.4, 0.8)
    depth_gain = rng.uniform(-6, 4) * (depth - 0.5) + 4 * np.exp(-((depth - focus) ** 2) / 0.08) - 2
    return ScannerSettings(
        axial_sigma=rng.uniform(0.7, 1.2),
        lateral_sigma=rng.uniform(0.8, 1.6),
        dynamic_range_db=rng.uniform(42, 58),
        gain_db=rng.uniform(19, 27),
        depth_gain_db=depth_gain[:, None].astype(np.float32),
        noise=10 ** (rng.uniform(-32, -22) / 20),
        persistence=rng.uniform(0.0, 0.35),
    )


def draw_contact(rng: np.random.Generator) -> TransducerContact:
    """Draw one visit's gain and shadowed beams."""
    beams = np.arange(BEAMS)
    block = np.zeros(BEAMS)
    for _ in range(rng.choice([0, 1, 2, 3], p=[0.35, 0.35, 0.2, 0.1])):
        block += rng.uniform(0.5, 3) * np.exp(-(((beams - rng.uniform(0, BEAMS)) / rng.uniform(4, 12)) ** 2))
    edge = rng.uniform(0, 1.5) * (np.abs(beams / BEAMS - 0.5) * 2) ** 4
    return TransducerContact(rng.normal(0, 3.0), np.exp(-(block + edge))[None, :].astype(np.float32))


@dataclass(frozen=True)
class Layer:
    """Reflectivity of one visit's tissue, the pose of the transducer in it, and its weight in the frame."""

    field: FloatArray
    pose: Pose
    weight: float = 1.0


class FrameRenderer:
    """Renders the frames of one scan in order.

    Args:
        sector: geometry of the sector.
        scanner: settings of the scanner.
        rng: stream of the scan's near field and receiver noise.
    """

    def __init__(self, sector: SectorGeometry, scanner: ScannerSettings, rng: np.random.Generator) -> None:
        self.scanner = scanner
        self.rng = rng
        self.points: tuple[FloatArray, FloatArray] = sector.beam_points()
        beam, sample = sector.pixel_beams()
        self.lookup: tuple[Any, Any] = cv2.convertMaps(beam, sample, cv2.CV_16SC2)
        self.noise: FloatArray = (rng.standard_normal((SAMPLES * 2, BEAMS * 2, 2)) * scanner.noise).astype(np.float32)
        self.near: FloatArray = _near_field(rng)
        self.level_db: FloatArray = scanner.depth_gain_db + scanner.gain_db
        self.previous: FloatArray | None = None

    def frame(self, layers: list[Layer], contact: TransducerContact) -> NDArray[np.uint8]:
        """Render one frame [height, width]; zero outside the sector.

        Args:
            layers: two during a cross-fade of planes, else one.
            contact: gain and shadowed beams.
        """
        echo = self._echo(layers)
        echo[:NEAR_SAMPLES] += self._near_strip(layers[0].pose)
        echo *= contact.beam_gain[..., None]
        row, column = self.rng.integers(0, SAMPLES), self.rng.integers(0, BEAMS)
        echo += self.noise[row : row + SAMPLES, column : column + BEAMS]
        spread = cv2.GaussianBlur(echo, (0, 0), self.scanner.lateral_sigma, None, self.scanner.axial_sigma)
        envelope = np.asarray(cv2.magnitude(spread[..., 0], spread[..., 1]), np.float32)
        gray = self._compress(envelope, contact.gain_db)
        return np.asarray(cv2.remap(gray, *self.lookup, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.uint8)

    def _echo(self, layers: list[Layer]) -> FloatArray:
        scale, origin = map_scale_and_origin()
        tissue: FloatArray = np.zeros((SAMPLES, BEAMS, 3), np.float32)
        for layer in layers:
            x, y = layer.pose.slab_points(*self.points)
            x, y = x * scale + origin, y * scale + origin
            layer_samples = cv2.remap(layer.field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            cv2.scaleAdd(layer_samples, layer.weight, tissue, dst=tissue)
        attenuation = np.cumsum(tissue[..., 2], axis=0)
        transmission = cv2.exp(-np.clip(attenuation - tissue[..., 2], -0.5, MAX_ATTENUATION_NEPERS))
        return np.asarray(tissue[..., :2] * transmission[..., None])

    def _near_strip(self, pose: Pose) -> FloatArray:
        moved = np.array([[1, 0, BEAMS / 2 + 30 * pose.x], [0, 1, 0]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (BEAMS, NEAR_SAMPLES)
        return np.asarray(
            cv2.warpAffine(self.near, moved, size, flags=flags, borderMode=cv2.BORDER_REFLECT), np.float32
        )

    def _compress(self, envelope: FloatArray, gain_db: float) -> NDArray[np.uint8]:
        nepers = cv2.log(envelope + 1e-4)
        gray = (nepers * (20 / np.log(10)) + (self.level_db + gain_db)) * (255 / self.scanner.dynamic_range_db)
        np.clip(gray, 0, 255, out=gray)
        if self.previous is not None:
            cv2.addWeighted(gray, 1 - self.scanner.persistence, self.previous, self.scanner.persistence, 0, dst=gray)
        self.previous = gray
        return np.asarray(gray, np.uint8)


def _near_field(rng: np.random.Generator) -> FloatArray:
    """Draw maternal skin, fat and muscle: bright wavy layers that move with the transducer and fade with depth."""
    depth = np.arange(NEAR_SAMPLES)[:, None]
    across = np.linspace(0, 1, 2 * BEAMS)[None, :]
    level = np.full((NEAR_SAMPLES, 2 * BEAMS), 0.6)
    for _ in range(rng.integers(3, 7)):
        wave = np.sin(2 * np.pi * (across * rng.uniform(0.3, 1.5) + rng.random()))
        middle = rng.uniform(0, 30) + rng.uniform(0, 3) * wave
        level += rng.uniform(1, 5) * np.exp(-(((depth - middle) / rng.uniform(0.8, 2.5)) ** 2))
    level *= np.exp(-((depth / rng.uniform(14, 26)) ** 2)) * rng.uniform(0.4, 1.2)
    rough = rng.standard_normal((NEAR_SAMPLES, 2 * BEAMS, 2)) * 0.6
    rough[..., 0] += 0.8
    return np.asarray(rough * level[..., None], np.float32)
