"""Alignment of audio and gaze with the video: clocks, and where the video was on the screen."""

from math import radians, tan
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from usvs.archive.settings import GazeSettings

FULL_SCREEN = (0.0, 0.0, 1.0, 1.0)


class GazeAlignment(BaseModel):
    """Clock and screen of a gaze recording; what is None is taken from the recording, otherwise from the settings.

    Attributes:
        zero: value of the recording's clock at the first video frame, in the recording's own unit.
        offset_seconds: added to the recording's times after `zero` was subtracted.
        drift_ppm: how much faster the recording's clock runs than the video's.
        viewing_distance_mm: distance from the eyes to the screen.
        screen_width_mm: width of the visible part of the screen.
        screen_height_mm: height of the visible part of the screen.
        picture: left, top, right and bottom of the video on the screen, as fractions of the screen.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    zero: float | None = None
    offset_seconds: float = 0.0
    drift_ppm: float = 0.0
    viewing_distance_mm: float | None = Field(None, gt=0)
    screen_width_mm: float | None = Field(None, gt=0)
    screen_height_mm: float | None = Field(None, gt=0)
    picture: tuple[float, float, float, float] = FULL_SCREEN

    def fill_defaults(self, settings: GazeSettings, viewing_distance_mm: float | None = None) -> "GazeAlignment":
        """Return a copy without None in screen and distance: from the manifest, else the recording, else the settings.

        Args:
            settings: defaults.
            viewing_distance_mm: as measured in the recording, None if it was not.
        """
        values = {name: getattr(self, name) or getattr(settings, name) for name in GazeSettings.model_fields}
        distance_mm = self.viewing_distance_mm or viewing_distance_mm or settings.viewing_distance_mm
        return self.model_copy(update={**values, "viewing_distance_mm": distance_mm})

    @property
    def degree_size(self) -> tuple[float, float]:
        """Size of one degree of visual angle at the centre of the screen, as fractions of the video's width and height.

        Available after `fill_defaults`. Source: size = distance * tan(angle).
        """
        if not (self.viewing_distance_mm and self.screen_width_mm and self.screen_height_mm):
            raise ValueError("the size of a degree needs the screen and the viewing distance: call fill_defaults first")
        left, top, right, bottom = self.picture
        size_mm = self.viewing_distance_mm * tan(radians(1.0))
        return size_mm / (self.screen_width_mm * (right - left)), size_mm / (self.screen_height_mm * (bottom - top))


class Alignment(BaseModel):
    """How the audio and the gaze of a scan are aligned with its video.

    Attributes:
        sound_offset_seconds: delay of the audio; for a separate audio file, time of its first sample on the scan clock.
        sound_drift_ppm: how much faster the audio's clock runs than the video's.
        gaze: alignment of the gaze recording.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    sound_offset_seconds: float = 0.0
    sound_drift_ppm: float = 0.0
    gaze: GazeAlignment = GazeAlignment()


DEFAULT_ALIGNMENT = Alignment()  # of a scan for which the manifest states nothing
