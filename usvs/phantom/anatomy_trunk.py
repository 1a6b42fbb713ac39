"""The standard planes of trunk, limb and spine. Each drawing returns its landmarks [k, 2], the main one first."""

import numpy as np

from usvs.phantom.canvas import Points
from usvs.phantom.drawing import FLUID, Drawing, curve, draw_trunk, draw_vessel, ellipse

LIVER = 1.0


def abdomen(drawing: Drawing) -> Points:
    """Abdomen: even liver, the dark stomach bubble, the short umbilical vein, spine at the side."""
    draw_trunk(drawing, LIVER, ribs=True)
    drawing.vertebra(0.66, 0.05)
    drawing.fluid_space(ellipse(0.1, 0.4, drawing.varied(0.29), drawing.varied(0.21), 20))
    draw_vessel(drawing, curve((-0.6, -0.06), (-0.3, -0.06), (-0.1, -0.22)), drawing.varied(0.1), 6.0)
    drawing.fluid_space(ellipse(0.42, -0.02, 0.07, 0.07), 4.0)
    return np.array([[0.12, 0.42], [-0.3, -0.08], [0.62, 0.05]])


def kidneys(drawing: Drawing) -> Points:
    """Kidneys: a pair of ovals with a dark pelvis on either side of the spine."""
    draw_trunk(drawing, LIVER, ribs=False)
    drawing.vertebra(0.0, 0.28)
    for side in (-1.0, 1.0):
        across, down = drawing.varied(0.28), drawing.varied(0.24)
        outline = ellipse(side * 0.42, 0.22, across, down, side * 25)
        drawing.fill(outline, 0.35)
        drawing.wall(np.concatenate([outline, outline[:1]]), 0.06, 6.0, facing=0.4)
        drawing.fill(ellipse(side * 0.38, 0.22, across * 0.5, down * 0.5, side * 25), 2.2)
        drawing.fill(ellipse(side * 0.36, 0.22, across * 0.3, down * 0.3, side * 25), FLUID)
    return np.array([[-0.42, 0.22], [0.42, 0.22], [0.0, 0.28]])


def femur(drawing: Drawing) -> Points:
    """Femur: one straight bright shaft in the thigh, with its shadow."""
    front = ((-0.95, -0.1), (-0.6, -0.34), (0.2, -0.36), (0.9, -0.16))
    drawing.fill(curve(*front, (0.95, 0.2), (0.3, 0.4), (-0.6, 0.36), (-0.95, 0.14)), 0.9)
    drawing.wall(curve(*front), 0.05, 5.0)
    half = drawing.varied(0.66, 0.08)
    bow = drawing.varied(0.05, 0.6)
    drawing.bone(curve((-half, 0.02), (0, bow - 0.03), (half, 0.02)), 0.13, shadow=1.0, facing=0.2)
    drawing.fill(ellipse(-half - 0.12, 0.05, 0.1, 0.13), 0.3)
    drawing.fill(ellipse(half + 0.1, 0.05, 0.09, 0.12), 0.3)
    return np.array([[-half, 0.02], [half, 0.02], [0.0, 0.0]])


def spine_coronal(drawing: Drawing) -> Points:
    """Spine_cor: two rows of vertebral centres, side by side, closing towards the sacrum."""
    drawing.fill(curve((-1.0, -0.36), (0, -0.46), (0.9, -0.3), (0.9, 0.3), (0, 0.46), (-1.0, 0.36)), 0.6)
    step = drawing.varied(0.2, 0.1)
    width = drawing.varied(0.2, 0.1)
    positions = np.arange(-4, 5) * step
    for x in positions:
        apart = width * (1.0 if x < 2 * step else 1.0 - 0.4 * (x / step - 1) / 3)
        for side in (-1.0, 1.0):
            drawing.round_bone(float(x), side * apart, 0.085, shadow=0.5)
    for x in positions[1:5]:
        for side in (-1.0, 1.0):
            drawing.wall(curve((float(x), side * 0.32), (float(x) - 0.08, side * 0.52)), 0.04, 5.0, facing=0.3)
    return np.array([[0.0, 0.0], [-0.5, 0.0], [0.6, 0.0]])


def spine_sagittal(drawing: Drawing) -> Points:
    """Spine_sag: one curved row of vertebral bodies under the unbroken line of the skin."""
    bend = drawing.varied(0.3, 0.3)
    x = np.linspace(-0.95, 0.95, 40)
    arc = np.stack([x, bend * (x**2 - 0.3)], axis=1)
    drawing.fill(np.concatenate([arc - np.array([0, 0.34]), (arc + np.array([0, 0.5]))[::-1]]), 0.6)
    drawing.wall(arc - np.array([0, 0.34]), 0.06, 7.0, facing=0.5)
    draw_vessel(drawing, arc[4:-2] - np.array([0, 0.14]), 0.1, 4.0)
    for position in np.linspace(-0.82, 0.86, round(drawing.varied(11.0, 0.1))):
        drawing.round_bone(float(position), bend * (float(position) ** 2 - 0.3) + 0.06, 0.08, shadow=0.7)
    return np.array([[0.0, -bend * 0.3], [-0.6, 0.0], [0.7, 0.1]])


def search(drawing: Drawing) -> Points:
    """Background: no standard plane, only fluid and stray echoes between two planes."""
    return np.array([[0.0, 0.0], [0.4, 0.3], [-0.4, -0.2]])
