"""Settings of gaze recordings in an archive."""

from pydantic import Field

from usvs.config import Settings


class GazeSettings(Settings):
    """Screen and viewing distance of gaze recordings, used where neither manifest.csv nor the recording states them.

    The paper gives neither; the defaults are ours.
    """

    viewing_distance_mm: float = Field(600.0, gt=0)  # arm's length, as for eye trackers mounted below a screen
    screen_width_mm: float = Field(509.0, gt=0)  # a 23-inch widescreen
    screen_height_mm: float = Field(286.0, gt=0)
