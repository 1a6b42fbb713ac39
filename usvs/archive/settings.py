"""Settings of gaze recordings and of labels in an archive."""

from pydantic import Field

from usvs.config import Settings


class GazeSettings(Settings):
    """Screen and viewing distance of gaze recordings, used where neither manifest.csv nor the recording states them.

    The paper gives neither; the defaults are ours.
    """

    viewing_distance_mm: float = Field(600.0, gt=0)  # arm's length, as for eye trackers mounted below a screen
    screen_width_mm: float = Field(509.0, gt=0)  # a 23-inch widescreen
    screen_height_mm: float = Field(286.0, gt=0)


class LabelSettings(Settings):
    """Names of the columns in an archive's table of labels; see `usvs.archive.label_tables`."""

    columns: tuple[str, ...] = ()  # with labels; empty: all that name no file, patient or time
    file_column: str = ""  # with the names of files; empty: file, scan, video, filename, path or clip
    patient_column: str = ""  # with patients, for example source_id; empty: patient, where there is one
