"""What anatomy is drawn with: outlines and walls in its own frame, a little different from patient to patient."""

from dataclasses import dataclass

import numpy as np

from usvs.phantom.canvas import Canvas, Placement, Points, curve, ellipse

BONE = 14.0  # mirror amplitude; soft tissue scatters 1.0
WALL = 3.0
BONE_SHADOW = 0.10  # attenuation per sample
FLUID = 0.02


@dataclass
class Pencil:
    """Draws through a placement onto a canvas; `rng` holds the patient's own proportions."""

    canvas: Canvas
    place: Placement
    rng: np.random.Generator
    bone_level: float = 1.0

    def about(self, value: float, share: float = 0.12) -> float:
        """Return a value as this patient has it: within plus or minus a share of the given one."""
        return value * float(self.rng.uniform(1 - share, 1 + share))

    def fill(self, points: Points, scatter: float, attenuation: float = 0.0) -> None:
        """Fill an outline given in the anatomy's frame."""
        self.canvas.fill(self.place(points), scatter, attenuation)

    def wall(self, points: Points, thickness: float, level: float = WALL, facing: float = 0.7) -> None:
        """Draw a soft wall given in the anatomy's frame."""
        self.canvas.wall(self.place(points), thickness * self.place.scale, level, 0.0, facing)

    def bone(self, points: Points, thickness: float, shadow: float = 1.0, facing: float = 0.6) -> None:
        """Draw a bright line that casts a shadow."""
        level = BONE * self.bone_level
        self.canvas.wall(self.place(points), thickness * self.place.scale, level, BONE_SHADOW * shadow, facing)

    def bead(self, x: float, y: float, radius: float, shadow: float = 1.0) -> None:
        """Draw a round bone seen end on, such as a vertebra."""
        dot = self.place(ellipse(x, y, radius * 0.5, radius * 0.5))
        width = radius * self.place.scale
        self.canvas.wall(dot, width, BONE * self.bone_level, BONE_SHADOW * shadow, facing=0.2)

    def pocket(self, points: Points, wall_level: float = WALL, thickness: float = 0.035) -> None:
        """Draw a space filled with fluid, its wall bright where it faces the probe."""
        self.fill(points, FLUID, attenuation=-0.004)
        self.wall(np.concatenate([points, points[:1]]), thickness, wall_level)

    def vertebra(self, x: float, y: float, tilt: float = 0.0) -> None:
        """Draw a vertebra in cross-section: three bright centres around a dark canal."""
        for angle in (90, 210, 330):
            turn = np.deg2rad(angle + tilt)
            self.bead(x + 0.11 * float(np.cos(turn)), y + 0.11 * float(np.sin(turn)), 0.075, shadow=0.8)


def trunk(pencil: Pencil, scatter: float, ribs: bool) -> None:
    """Draw the round outline of chest or abdomen in cross-section, with skin and, if expected, ribs."""
    across, down = pencil.about(0.92, 0.06), pencil.about(0.84, 0.06)
    pencil.fill(ellipse(0, 0, across, down), scatter, attenuation=0.002)
    pencil.wall(ellipse(0, 0, across, down), 0.045, level=4.0, facing=0.9)
    if ribs:
        for start in (200, 320):
            pencil.bone(ellipse(0, 0, across - 0.1, down - 0.1, 0, start, start + pencil.about(35)), 0.05, shadow=0.5)


def tube(pencil: Pencil, middle: Points, width: float, level: float = WALL) -> None:
    """Draw a vessel along its middle line [n, 2]."""
    along = np.gradient(middle, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    left, right = middle + normal * width / 2, middle - normal * width / 2
    pencil.fill(np.concatenate([left, right[::-1]]), FLUID, attenuation=-0.004)
    pencil.wall(left, 0.04, level)
    pencil.wall(right, 0.04, level)


__all__ = ["BONE", "FLUID", "WALL", "Pencil", "curve", "ellipse", "trunk", "tube"]
