"""The standard planes of head and face. Each drawing returns its landmarks [k, 2], the main one first."""

import numpy as np

from usvs.phantom.canvas import Points
from usvs.phantom.drawing import FLUID, Drawing, curve, ellipse

BRAIN = 0.22


def _skull(drawing: Drawing) -> tuple[float, float]:
    across, down = drawing.varied(0.95, 0.05), drawing.varied(0.7, 0.06)
    drawing.fill(ellipse(0, 0, across, down), BRAIN)
    gap = drawing.varied(14.0, 0.5)
    drawing.bone(ellipse(0, 0, across, down, 0, gap, 180 - gap), 0.09, shadow=0.18, facing=0.75)
    drawing.bone(ellipse(0, 0, across, down, 0, 180 + gap, 360 - gap), 0.09, shadow=0.18, facing=0.75)
    return across, down


def brain_ventricles(drawing: Drawing) -> Points:
    """Brain_tv: skull, broken midline, and the lateral ventricle with its bright plexus."""
    across, down = _skull(drawing)
    drawing.wall(curve((-0.82 * across, 0), (-0.1, 0.01)), 0.04, 7.0, facing=0.4)
    drawing.wall(curve((0.5, 0.0), (0.9 * across, 0)), 0.04, 7.0, facing=0.4)
    drawing.fluid_space(ellipse(0.28, 0, 0.16, 0.07), 6.0, 0.035)
    for side in (-1.0, 1.0):
        far = side * drawing.varied(0.36 * down / 0.7, 0.08)
        drawing.fill(ellipse(-0.34, far, 0.38, 0.16, side * 12), FLUID)
        drawing.wall(ellipse(-0.34, far, 0.38, 0.16, side * 12), 0.03, 3.0)
        drawing.fill(ellipse(-0.38, far, drawing.varied(0.27), drawing.varied(0.1), side * 12), 2.6)
    return np.array([[-0.38, 0.36], [0.28, 0.0], [-0.38, -0.36]])


def brain_cerebellum(drawing: Drawing) -> Points:
    """Brain_tc: skull, the two round lobes of the cerebellum, the dark cistern behind and the nuchal fold."""
    across, down = _skull(drawing)
    drawing.wall(curve((-0.1, 0), (0.2, 0.0)), 0.04, 6.0, facing=0.4)
    drawing.wall(curve((0.5, 0.0), (0.9 * across, 0)), 0.04, 6.0, facing=0.4)
    for side in (-1.0, 1.0):
        drawing.fill(ellipse(0.1, side * 0.13, 0.15, 0.08, side * 40), 0.06)
    drawing.fill(ellipse(-0.72, 0, 0.15, 0.36), FLUID)
    size = drawing.varied(0.27, 0.08)
    for side in (-1.0, 1.0):
        lobe = ellipse(-0.42, side * size * 0.95, size * 0.8, size)
        drawing.fill(lobe, 1.5)
        drawing.wall(lobe, 0.045, 6.0, facing=0.3)
    fold = drawing.varied(0.2)
    outer, inner = ellipse(0, 0, across + fold, down + 0.05, 0, 140, 220), ellipse(0, 0, across, down, 0, 140, 220)
    drawing.fill(np.concatenate([outer, inner[::-1]]), 1.6)
    return np.array([[-0.42, 0.0], [-0.42, 0.26], [-0.42, -0.26], [-0.75, 0.0]])


def lips_and_nose(drawing: Drawing) -> Points:
    """Lips: nostrils over the bright bows of the upper and lower lip, chin below."""
    drawing.fill(ellipse(0, 0.0, drawing.varied(0.8, 0.06), drawing.varied(0.9, 0.06)), FLUID)
    sides = ((-0.42, 0.6), (-0.5, 0.1), (-0.36, -0.35), (0, -0.78), (0.36, -0.35), (0.5, 0.1), (0.42, 0.6))
    drawing.fill(curve(*sides, (0, 0.86)), 1.0)
    drawing.wall(curve((-0.4, -0.3), (0, -0.78), (0.4, -0.3)), 0.06, 6.0, facing=0.5)
    for side in (-1.0, 1.0):
        drawing.fluid_space(ellipse(side * drawing.varied(0.17), -0.28, 0.1, 0.085), 5.0)
    rise = drawing.varied(0.1, 0.3)
    bow = ((-0.46, 0.14), (-0.22, 0.02), (-0.06, 0.02 + rise), (0.06, 0.02 + rise), (0.22, 0.02), (0.46, 0.14))
    drawing.wall(curve(*bow), 0.14, 6.0, facing=0.3)
    drawing.fill(ellipse(0, 0.24, 0.4, 0.05), FLUID)
    drawing.wall(curve((-0.38, 0.32), (0, 0.44), (0.38, 0.32)), 0.14, 6.0, facing=0.3)
    drawing.wall(curve((-0.24, 0.68), (0, 0.76), (0.24, 0.68)), 0.06, 5.0, facing=0.5)
    return np.array([[0.0, 0.08], [0.17, -0.28], [-0.17, -0.28], [0.0, 0.42]])


def profile(drawing: Drawing) -> Points:
    """Profile: forehead, nose, lips and chin in outline against the fluid, the skull's arc behind."""
    nose = drawing.varied(0.16, 0.25)
    brow = ((-0.25, -0.8), (0.18, -0.7), (0.36, -0.4), (0.36, -0.2))
    mouth = ((0.4, 0.12), (0.5, 0.2), (0.42, 0.3), (0.48, 0.38), (0.38, 0.48))
    front = curve(*brow, (0.42 + nose, 0.02), *mouth, (0.4, 0.66), (0.2, 0.74))
    back = curve((0.0, 0.5), (-0.4, 0.42), (-0.8, 0.2), (-0.88, -0.2), (-0.66, -0.62), (-0.25, -0.8))
    drawing.fill(np.concatenate([front + np.array([0.32, 0]), front[::-1]]), FLUID)
    drawing.fill(np.concatenate([front, back]), 0.7)
    drawing.fill(ellipse(-0.32, -0.2, 0.5, 0.46), BRAIN)
    drawing.wall(front, 0.05, 5.0, facing=0.5)
    drawing.bone(ellipse(-0.32, -0.2, 0.56, 0.54, 0, 150, 350), 0.1, shadow=0.2, facing=0.5)
    drawing.bone(curve((0.3, -0.16), (0.3 + nose * 1.2, -0.02)), 0.07, shadow=0.4, facing=0.2)
    drawing.bone(curve((0.02, 0.2), (0.34, 0.22)), 0.07, shadow=0.4, facing=0.3)
    drawing.bone(curve((0.02, 0.52), (0.34, 0.56)), 0.08, shadow=0.4, facing=0.3)
    return np.array([[0.42, 0.02], [0.44, 0.25], [0.36, 0.6], [0.36, -0.35]])
