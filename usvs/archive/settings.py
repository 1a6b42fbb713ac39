"""Settings of gaze recordings and of labels in an archive."""

from pydantic import Field

from usvs.config import Settings


class GazeSettings(Settings):
    """Screen and viewing distance of gaze recordings, used where neither manifest.csv nor the recording states them.

    The paper gives neither; the defaults are ours.
    """

    viewing_distance_mm: float = Field(600.0, gt=0)
    """Distance of the eyes from the screen, in mm; the default is arm's length, as for eye trackers below a screen."""
    screen_width_mm: float = Field(509.0, gt=0)
    """Width of the screen, in mm; the default is that of a 23-inch widescreen."""
    screen_height_mm: float = Field(286.0, gt=0)
    """Height of the screen, in mm; the default is that of a 23-inch widescreen."""


class LabelSettings(Settings):
    """Names of the columns in an archive's table of labels; see `usvs.archive.label_tables`."""

    columns: tuple[str, ...] = ()
    """Columns with labels; empty: all that name no file, patient or time."""
    file_column: str = ""
    """Column with the names of files; empty: file, scan, video, filename, path or clip."""
    patient_column: str = ""
    """Column with patients, for example source_id; empty: patient, where there is one."""
