"""How sound and gaze lie against the picture: on its clock and on the screen it was seen on."""

from math import radians, tan

from pydantic import BaseModel, ConfigDict, Field

from usvs.archive.settings import GazeSettings

WHOLE_SCREEN = (0.0, 0.0, 1.0, 1.0)


class GazeAlignment(BaseModel):
    """When and where a gaze recording was made; what is None is read from the file, else from the settings.

    Attributes:
        zero: what the recording's clock shows at the first frame, in its own unit.
        offset_seconds: added to the recording's times, after `zero` is taken off.
        drift_ppm: how much faster than the picture's the recording's clock runs.
        viewing_distance_mm: from the eyes to the screen.
        screen_width_mm: of the screen's visible part.
        screen_height_mm: likewise.
        picture: left, top, right, bottom of the video picture as shares of the screen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    zero: float | None = None
    offset_seconds: float = 0.0
    drift_ppm: float = 0.0
    viewing_distance_mm: float | None = Field(None, gt=0)
    screen_width_mm: float | None = Field(None, gt=0)
    screen_height_mm: float | None = Field(None, gt=0)
    picture: tuple[float, float, float, float] = WHOLE_SCREEN

    def fill_defaults(self, settings: GazeSettings, viewing_distance_mm: float | None = None) -> "GazeAlignment":
        """Return the view with nothing left open: the manifest's word first, then the file's, then the settings'."""
        given = {name: getattr(self, name) or getattr(settings, name) for name in GazeSettings.model_fields}
        distance = self.viewing_distance_mm or viewing_distance_mm or settings.viewing_distance_mm
        return self.model_copy(update={**given, "viewing_distance_mm": distance})

    @property
    def degree(self) -> tuple[float, float]:
        """One degree of visual angle at the screen's middle, as shares of the video picture's width and height.

        A completed view only. Source: size = distance times tan(angle).
        """
        assert self.viewing_distance_mm and self.screen_width_mm and self.screen_height_mm, "complete the view first"
        left, top, right, bottom = self.picture
        size_mm = self.viewing_distance_mm * tan(radians(1.0))
        return size_mm / (self.screen_width_mm * (right - left)), size_mm / (self.screen_height_mm * (bottom - top))


class Alignment(BaseModel):
    """How a scan's sound and gaze are brought onto the clock and the picture of its video.

    Attributes:
        sound_offset_seconds: moves the sound; for a sound beside the video, the scan's time of its first sample.
        sound_drift_ppm: how much faster than the picture's the sound's clock runs.
        gaze: likewise for the gaze, and where it was seen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sound_offset_seconds: float = 0.0
    sound_drift_ppm: float = 0.0
    gaze: GazeAlignment = GazeAlignment()


AS_RECORDED = Alignment()  # of every scan of which nothing else is said
