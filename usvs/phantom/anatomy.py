"""The tissue of one visit: the anatomy of a plane in a random pose, surrounded by fluid and uterus."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from usvs.phantom import anatomy_head, anatomy_heart, anatomy_trunk
from usvs.phantom.canvas import MAP_PIXELS, Canvas, Placement, Points, curve, ellipse
from usvs.phantom.drawing import FLUID, Drawing
from usvs.phantom.geometry import FloatArray
from usvs.phantom.settings import PhantomSettings
from usvs.utils.seeds import between

DRAW_FUNCTIONS: dict[str, Callable[[Drawing], Points]] = {
    "3VT": anatomy_heart.three_vessels,
    "4CH": anatomy_heart.four_chambers,
    "abdomen": anatomy_trunk.abdomen,
    "femur": anatomy_trunk.femur,
    "brain_tv": anatomy_head.brain_ventricles,
    "kidneys": anatomy_trunk.kidneys,
    "LVOT": anatomy_heart.left_outflow,
    "lips": anatomy_head.lips_and_nose,
    "profile": anatomy_head.profile,
    "RVOT": anatomy_heart.right_outflow,
    "brain_tc": anatomy_head.brain_cerebellum,
    "spine_cor": anatomy_trunk.spine_coronal,
    "spine_sag": anatomy_trunk.spine_sagittal,
    "background": anatomy_trunk.search,
}


@dataclass(frozen=True)
class Slab:
    """The tissue of one visit, and its landmarks [k, 2] in the tissue frame, the main one first."""

    canvas: Canvas
    landmarks: NDArray[np.float64]


def draw_slab(
    plane: str,
    patient_rng: np.random.Generator,
    visit_rng: np.random.Generator,
    apex: tuple[float, float],
    settings: PhantomSettings,
) -> Slab:
    """Draw the tissue of one visit.

    Args:
        plane: name of the plane, background included.
        patient_rng: stream of the patient's proportions; the same stream gives the same proportions.
        visit_rng: stream of the visit's pose and surroundings.
        apex: origin of the beams, in the tissue frame.
        settings: bounds of rotation and scale.
    """
    canvas = Canvas(apex, scatter=float(visit_rng.uniform(0.5, 1.1)))
    _draw_uterus(canvas, visit_rng)
    placement = Placement(
        visit_rng,
        rotation=float(visit_rng.uniform(-settings.rotation_degrees, settings.rotation_degrees)),
        scale=between(visit_rng, settings.scale),
        shift=(
            float(visit_rng.uniform(-1, 1)) * settings.shift,
            0.8 * float(visit_rng.uniform(-1, 1)) * settings.shift,
        ),
    )
    drawing = Drawing(canvas, placement, patient_rng, bone_level=float(visit_rng.uniform(0.5, 1.2)))
    return Slab(canvas, placement(DRAW_FUNCTIONS[plane](drawing)))


def _draw_uterus(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draw fluid, placenta, uterine wall and other parts of the fetus, distributed equally for every plane."""
    if rng.random() < 0.75:
        corners = np.sort(rng.uniform(0, 360, 9))
        reach = rng.uniform(0.9, 1.9, 9)
        middle = rng.uniform(-0.5, 0.5, 2)
        lake = np.stack([np.cos(np.deg2rad(corners)), np.sin(np.deg2rad(corners))], axis=1) * reach[:, None] + middle
        canvas.fill(_closed(lake), FLUID * float(rng.uniform(1, 6)))
        canvas.wall(_closed(lake), 0.04, float(rng.uniform(2, 5)))
    for _ in range(rng.integers(2, 6)):
        x, y = rng.uniform(-1.8, 1.8, 2)
        blob = ellipse(x, y, rng.uniform(0.15, 0.6), rng.uniform(0.1, 0.4), rng.uniform(0, 180))
        canvas.fill(blob, float(rng.choice([FLUID, 0.3, 0.8, 1.6], p=[0.3, 0.2, 0.3, 0.2])))
        canvas.wall(blob, 0.03, float(rng.uniform(1, 5)), facing=0.9)
    for _ in range(rng.integers(1, 5)):
        start, bend = rng.uniform(-2, 2, 2), rng.uniform(-0.5, 0.5, (2, 2))
        streak = curve(tuple(start), tuple(start + bend[0]), tuple(start + bend[0] + bend[1]))
        canvas.wall(streak, rng.uniform(0.03, 0.09), float(rng.uniform(3, 9)), float(rng.uniform(0, 0.02)), facing=0.5)
    wall_depth, slope = rng.uniform(-1.5, -0.9), rng.uniform(-0.15, 0.15)
    x = np.linspace(-2.8, 2.8, 40)
    y = wall_depth + slope * x + 0.06 * np.sin(x * rng.uniform(1, 3) + rng.uniform(0, 6))
    above = np.concatenate([np.stack([x, y], axis=1), [[2.8, -3.0], [-2.8, -3.0]]])
    canvas.fill(above, float(rng.uniform(0.6, 1.3)))
    canvas.wall(np.stack([x, y], axis=1), 0.04, float(rng.uniform(3, 8)))


def _closed(corners: Points) -> Points:
    return curve(*[tuple(p) for p in [*corners, corners[0]]])


def reflectivity(canvas: Canvas, rng: np.random.Generator) -> FloatArray:
    """Return the reflectivity of a canvas: random scatterers and specular reflections.

    Returns:
        [MAP_PIXELS, MAP_PIXELS, 3]: real part, imaginary part, attenuation per sample.
    """
    texture = np.exp(0.3 * _smooth_noise(rng, 20) + 0.2 * _smooth_noise(rng, 70))
    scatter = cv2.GaussianBlur(canvas.scatter, (0, 0), 1.2) * texture
    mirror = cv2.GaussianBlur(canvas.mirror, (0, 0), 0.7) * np.exp(0.5 * _smooth_noise(rng, 60))
    field = np.empty((MAP_PIXELS, MAP_PIXELS, 3), np.float32)
    rough = rng.standard_normal((MAP_PIXELS, MAP_PIXELS, 2), np.float32)
    field[..., :2] = rough * (scatter + 0.8 * mirror)[..., None]
    field[..., 0] += 0.5 * mirror
    field[..., 2] = cv2.GaussianBlur(canvas.attenuation, (0, 0), 0.8)
    return field


def _smooth_noise(rng: np.random.Generator, cells: int) -> FloatArray:
    """Return smooth noise of unit variance with about `cells` maxima along a side."""
    coarse = rng.standard_normal((cells, cells), np.float32)
    return np.asarray(cv2.resize(coarse, (MAP_PIXELS, MAP_PIXELS), interpolation=cv2.INTER_CUBIC))
