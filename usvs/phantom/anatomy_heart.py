"""The four standard planes of the heart. Each drawing returns its landmarks [k, 2], the main one first."""

import numpy as np

from usvs.phantom.canvas import Points
from usvs.phantom.drawing import FLUID, Drawing, curve, draw_trunk, draw_vessel, ellipse

LUNG = 1.5
MUSCLE = 0.75


def four_chambers(drawing: Drawing) -> Points:
    """4CH: four dark chambers around the bright cross of septum and valves."""
    draw_trunk(drawing, LUNG, ribs=True)
    drawing.vertebra(0.0, 0.62)
    size = drawing.varied(0.56, 0.06)
    drawing.fill(ellipse(0, -0.1, size, size * 0.92), MUSCLE)
    drawing.wall(ellipse(0, -0.1, size, size * 0.92), 0.03, 3.0)
    for x, y, across, down, tilt in (
        (-0.25, -0.33, 0.17, 0.24, 18.0),
        (0.25, -0.33, 0.17, 0.24, -18.0),
        (-0.24, 0.15, 0.18, 0.16, 0.0),
        (0.24, 0.15, 0.18, 0.16, 0.0),
    ):
        drawing.fluid_space(ellipse(x, y, drawing.varied(across), drawing.varied(down), tilt))
    drawing.wall(curve((0, -0.62), (0.01, -0.1), (0, 0.34)), 0.09, 5.0, facing=0.3)
    drawing.wall(curve((-0.42, -0.05), (0, -0.08), (0.42, -0.05)), 0.07, 5.0, facing=0.3)
    return np.array([[0, -0.08], [-0.25, -0.33], [0.25, -0.33], [0.24, 0.15]])


def three_vessels(drawing: Drawing) -> Points:
    """3VT: ductal and aortic arch join as a V next to the round superior vena cava."""
    draw_trunk(drawing, LUNG, ribs=True)
    drawing.vertebra(0.0, 0.64)
    draw_vessel(drawing, curve((-0.52, -0.46), (-0.28, -0.02), (-0.05, 0.4)), drawing.varied(0.25))
    draw_vessel(drawing, curve((0.14, -0.44), (0.08, -0.02), (0.01, 0.38)), drawing.varied(0.2))
    drawing.fluid_space(ellipse(0.5, -0.26, drawing.varied(0.13), drawing.varied(0.13)), 5.0)
    drawing.fluid_space(ellipse(0.36, 0.2, 0.08, 0.08), 8.0, thickness=0.05)
    return np.array([[0.0, 0.3], [-0.35, -0.2], [0.12, -0.2], [0.5, -0.26]])


def left_outflow(drawing: Drawing) -> Points:
    """LVOT: one long dark passage from the left ventricle through the valve into the aorta."""
    draw_trunk(drawing, LUNG, ribs=True)
    drawing.fill(ellipse(-0.12, -0.02, 0.66, 0.48, 25), MUSCLE)
    drawing.fluid_space(ellipse(-0.34, 0.34, drawing.varied(0.2), drawing.varied(0.13), 25))
    draw_vessel(drawing, curve((-0.62, -0.32), (-0.3, -0.14), (0.05, 0.06)), drawing.varied(0.34))
    draw_vessel(drawing, curve((0.02, 0.04), (0.26, 0.06), (0.5, -0.16), (0.66, -0.44)), drawing.varied(0.2), 6.0)
    drawing.wall(curve((-0.6, -0.02), (-0.3, 0.12), (0.02, 0.2)), 0.1, 5.0, facing=0.4)
    drawing.wall(curve((0.06, -0.05), (0.1, 0.14)), 0.05, 8.0, facing=0.2)
    return np.array([[0.08, 0.05], [-0.3, -0.14], [0.5, -0.16]])


def right_outflow(drawing: Drawing) -> Points:
    """RVOT: the outflow bends around the aorta, which is cut across and round."""
    draw_trunk(drawing, LUNG, ribs=True)
    drawing.fill(ellipse(0, -0.05, 0.68, 0.6), MUSCLE)
    draw_vessel(drawing, ellipse(0, 0, 0.46, 0.46, 0, 150, 390), drawing.varied(0.26))
    drawing.fluid_space(ellipse(0, 0.02, drawing.varied(0.19), drawing.varied(0.19)), 8.0, thickness=0.06)
    for tilt in (0.0, 120.0, 240.0):
        turn = np.deg2rad(tilt + 30)
        spoke = np.array([[0, 0.02], [0.15 * np.cos(turn), 0.02 + 0.15 * np.sin(turn)]])
        drawing.wall(spoke, 0.025, 4.0, facing=0.2)
    drawing.fill(ellipse(-0.3, 0.56, 0.14, 0.08), FLUID)
    return np.array([[0.0, 0.02], [0.42, -0.1], [0.0, -0.46]])
