"""Drawing of anatomy: outlines, walls, bones and vessels, with proportions that vary between patients."""

from dataclasses import dataclass

import numpy as np

from usvs.phantom.canvas import Canvas, Placement, Points, curve, ellipse

BONE = 14.0  # mirror amplitude; soft tissue scatters 1.0
WALL = 3.0
BONE_SHADOW = 0.10  # attenuation per sample
FLUID = 0.02


@dataclass
class Drawing:
    """Draws anatomy, given in its own frame, onto a canvas through a placement.

    Attributes:
        canvas: to draw on.
        placement: from the anatomy's frame to the tissue frame.
        rng: stream of the patient's proportions.
        bone_level: brightness of bone, relative to `BONE`.
    """

    canvas: Canvas
    placement: Placement
    rng: np.random.Generator
    bone_level: float = 1.0

    def varied(self, value: float, fraction: float = 0.12) -> float:
        """Return the patient's own value, which differs from `value` by at most `fraction` of it."""
        return value * float(self.rng.uniform(1 - fraction, 1 + fraction))

    def fill(self, points: Points, scatter: float, attenuation: float = 0.0) -> None:
        """Fill an outline [n, 2]."""
        self.canvas.fill(self.placement(points), scatter, attenuation)

    def wall(self, points: Points, thickness: float, level: float = WALL, facing: float = 0.7) -> None:
        """Draw a wall of soft tissue along a line [n, 2]."""
        self.canvas.wall(self.placement(points), thickness * self.placement.scale, level, 0.0, facing)

    def bone(self, points: Points, thickness: float, shadow: float = 1.0, facing: float = 0.6) -> None:
        """Draw a bright line that casts a shadow."""
        level = BONE * self.bone_level
        self.canvas.wall(self.placement(points), thickness * self.placement.scale, level, BONE_SHADOW * shadow, facing)

    def round_bone(self, x: float, y: float, radius: float, shadow: float = 1.0) -> None:
        """Draw a round bone seen end on, such as a vertebra."""
        dot = self.placement(ellipse(x, y, radius * 0.5, radius * 0.5))
        width = radius * self.placement.scale
        self.canvas.wall(dot, width, BONE * self.bone_level, BONE_SHADOW * shadow, facing=0.2)

    def fluid_space(self, points: Points, wall_level: float = WALL, thickness: float = 0.035) -> None:
        """Draw a fluid-filled space; its wall is bright where it is perpendicular to the beam."""
        self.fill(points, FLUID, attenuation=-0.004)
        self.wall(np.concatenate([points, points[:1]]), thickness, wall_level)

    def vertebra(self, x: float, y: float, tilt: float = 0.0) -> None:
        """Draw a vertebra in cross-section: three bright centres around a dark canal."""
        for angle in (90, 210, 330):
            turn = np.deg2rad(angle + tilt)
            self.round_bone(x + 0.11 * float(np.cos(turn)), y + 0.11 * float(np.sin(turn)), 0.075, shadow=0.8)


def draw_trunk(drawing: Drawing, scatter: float, ribs: bool) -> None:
    """Draw the round outline of chest or abdomen in cross-section, with skin and, if `ribs`, ribs."""
    across, down = drawing.varied(0.92, 0.06), drawing.varied(0.84, 0.06)
    drawing.fill(ellipse(0, 0, across, down), scatter, attenuation=0.002)
    drawing.wall(ellipse(0, 0, across, down), 0.045, level=4.0, facing=0.9)
    if ribs:
        for start in (200, 320):
            drawing.bone(
                ellipse(0, 0, across - 0.1, down - 0.1, 0, start, start + drawing.varied(35)), 0.05, shadow=0.5
            )


def draw_vessel(drawing: Drawing, middle: Points, width: float, level: float = WALL) -> None:
    """Draw a vessel along its centre line [n, 2]."""
    along = np.gradient(middle, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    left, right = middle + normal * width / 2, middle - normal * width / 2
    drawing.fill(np.concatenate([left, right[::-1]]), FLUID, attenuation=-0.004)
    drawing.wall(left, 0.04, level)
    drawing.wall(right, 0.04, level)


__all__ = ["BONE", "FLUID", "WALL", "Drawing", "curve", "draw_trunk", "draw_vessel", "ellipse"]
