"""The standard planes of trunk, limb and spine. Each drawing returns its landmarks [k, 2], the main one first."""

import numpy as np

from usvs.phantom.canvas import Points
from usvs.phantom.drawing import FLUID, Pencil, curve, ellipse, trunk, tube

LIVER = 1.0


def abdomen(pencil: Pencil) -> Points:
    """Abdomen: even liver, the black stomach bubble, the short umbilical vein, spine at the side."""
    trunk(pencil, LIVER, ribs=True)
    pencil.vertebra(0.66, 0.05)
    pencil.pocket(ellipse(0.1, 0.4, pencil.about(0.29), pencil.about(0.21), 20))
    tube(pencil, curve((-0.6, -0.06), (-0.3, -0.06), (-0.1, -0.22)), pencil.about(0.1), 6.0)
    pencil.pocket(ellipse(0.42, -0.02, 0.07, 0.07), 4.0)
    return np.array([[0.12, 0.42], [-0.3, -0.08], [0.62, 0.05]])


def kidneys(pencil: Pencil) -> Points:
    """Kidneys: a pair of ovals with a dark pelvis on either side of the spine."""
    trunk(pencil, LIVER, ribs=False)
    pencil.vertebra(0.0, 0.28)
    for side in (-1.0, 1.0):
        across, down = pencil.about(0.28), pencil.about(0.24)
        outline = ellipse(side * 0.42, 0.22, across, down, side * 25)
        pencil.fill(outline, 0.35)
        pencil.wall(np.concatenate([outline, outline[:1]]), 0.06, 6.0, facing=0.4)
        pencil.fill(ellipse(side * 0.38, 0.22, across * 0.5, down * 0.5, side * 25), 2.2)
        pencil.fill(ellipse(side * 0.36, 0.22, across * 0.3, down * 0.3, side * 25), FLUID)
    return np.array([[-0.42, 0.22], [0.42, 0.22], [0.0, 0.28]])


def femur(pencil: Pencil) -> Points:
    """Femur: one straight bright shaft in the thigh, with its shadow."""
    front = ((-0.95, -0.1), (-0.6, -0.34), (0.2, -0.36), (0.9, -0.16))
    pencil.fill(curve(*front, (0.95, 0.2), (0.3, 0.4), (-0.6, 0.36), (-0.95, 0.14)), 0.9)
    pencil.wall(curve(*front), 0.05, 5.0)
    half = pencil.about(0.66, 0.08)
    bow = pencil.about(0.05, 0.6)
    pencil.bone(curve((-half, 0.02), (0, bow - 0.03), (half, 0.02)), 0.13, shadow=1.0, facing=0.2)
    pencil.fill(ellipse(-half - 0.12, 0.05, 0.1, 0.13), 0.3)
    pencil.fill(ellipse(half + 0.1, 0.05, 0.09, 0.12), 0.3)
    return np.array([[-half, 0.02], [half, 0.02], [0.0, 0.0]])


def spine_coronal(pencil: Pencil) -> Points:
    """Spine_cor: two rows of vertebral centres, side by side, closing towards the sacrum."""
    pencil.fill(curve((-1.0, -0.36), (0, -0.46), (0.9, -0.3), (0.9, 0.3), (0, 0.46), (-1.0, 0.36)), 0.6)
    step = pencil.about(0.2, 0.1)
    width = pencil.about(0.2, 0.1)
    places = np.arange(-4, 5) * step
    for x in places:
        apart = width * (1.0 if x < 2 * step else 1.0 - 0.4 * (x / step - 1) / 3)
        for side in (-1.0, 1.0):
            pencil.bead(float(x), side * apart, 0.085, shadow=0.5)
    for x in places[1:5]:
        for side in (-1.0, 1.0):
            pencil.wall(curve((float(x), side * 0.32), (float(x) - 0.08, side * 0.52)), 0.04, 5.0, facing=0.3)
    return np.array([[0.0, 0.0], [-0.5, 0.0], [0.6, 0.0]])


def spine_sagittal(pencil: Pencil) -> Points:
    """Spine_sag: one curved row of vertebral bodies under the unbroken line of the skin."""
    bend = pencil.about(0.3, 0.3)
    x = np.linspace(-0.95, 0.95, 40)
    arc = np.stack([x, bend * (x**2 - 0.3)], axis=1)
    pencil.fill(np.concatenate([arc - np.array([0, 0.34]), (arc + np.array([0, 0.5]))[::-1]]), 0.6)
    pencil.wall(arc - np.array([0, 0.34]), 0.06, 7.0, facing=0.5)
    tube(pencil, arc[4:-2] - np.array([0, 0.14]), 0.1, 4.0)
    for position in np.linspace(-0.82, 0.86, round(pencil.about(11.0, 0.1))):
        pencil.bead(float(position), bend * (float(position) ** 2 - 0.3) + 0.06, 0.08, shadow=0.7)
    return np.array([[0.0, -bend * 0.3], [-0.6, 0.0], [0.7, 0.1]])


def search(pencil: Pencil) -> Points:
    """Background: nothing to name, fluid and stray echoes as the probe looks for the next plane."""
    return np.array([[0.0, 0.0], [0.4, 0.3], [-0.4, -0.2]])
