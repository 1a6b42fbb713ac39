"""Settings of the gaze recordings of an archive."""

from pydantic import Field

from usvs.config import Settings


class GazeSettings(Settings):
    """Where gaze was recorded, for what neither the manifest nor the recording says; ours, the paper gives neither."""

    viewing_distance_mm: float = Field(600.0, gt=0)  # arm's length, as eye trackers below a screen are built for
    screen_width_mm: float = Field(509.0, gt=0)  # a 23-inch widescreen
    screen_height_mm: float = Field(286.0, gt=0)
