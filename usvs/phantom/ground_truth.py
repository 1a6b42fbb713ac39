"""The truth about a phantom scan, kept where neither indexing nor training looks."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.phantom.gaze import Gaze, gaze_at
from usvs.phantom.narration import Narration
from usvs.phantom.scan import PhantomScan


@dataclass(frozen=True)
class ScanGroundTruth:
    """What is known about a scan.

    Attributes:
        frame_seconds: [n].
        plane: [n] index in STANDARD_PLANES.
        pose: [n, 4] probe against the visit's slab: x and y in tissue units, turn in radians, magnification.
        landmark: [n, 2] the plane's main landmark as shares of the video frame.
        gaze: [n, 2] mean valid gaze of the frame as shares of the video frame; NaN where there is none.
        speech: [m] at 100 Hz: somebody is heard.
        topic: [m] at 100 Hz: plane spoken of; -1 nothing, -2 other things.
        fan: width, height, apex_x, apex_y, inner_radius, outer_radius (pixels), half_angle (radians).
        box: left, top, right, bottom (exclusive) of the largest box inside the fan, pixels.
    """

    frame_seconds: NDArray[np.float64]
    plane: NDArray[np.int16]
    pose: NDArray[np.float32]
    landmark: NDArray[np.float32]
    gaze: NDArray[np.float32]
    speech: NDArray[np.bool_]
    topic: NDArray[np.int16]
    fan: dict[str, Any]
    box: tuple[int, int, int, int]


COLUMNS = ("frame_seconds", "plane", "pose", "landmark", "gaze", "speech", "topic")


def gather_ground_truth(
    scan: PhantomScan, landmarks: list[NDArray[np.float64]], gaze: Gaze, narration: Narration
) -> ScanGroundTruth:
    """Put together what the makers of a scan know."""
    seconds = np.arange(scan.frames) / scan.rate_hz
    return ScanGroundTruth(
        frame_seconds=seconds,
        plane=scan.planes(),
        pose=np.array([[p.x, p.y, p.turn, p.zoom] for visit in scan.poses for p in visit], np.float32),
        landmark=np.array([points[0] for points in landmarks], np.float32),
        gaze=gaze_at(gaze, seconds, 0.5 / scan.rate_hz),
        speech=narration.speech,
        topic=narration.topic,
        fan=asdict(scan.fan),
        box=scan.fan.inner_box(),
    )


def ground_truth_folder(archive: Path) -> Path:
    """Return the folder beside an archive that holds its truth."""
    return archive.with_name(archive.name + ".truth")


def write_ground_truth(path: Path, truth: ScanGroundTruth) -> None:
    """Write `path` (.npz) and the fan's geometry beside it (.json)."""
    np.savez_compressed(path, **{name: getattr(truth, name) for name in COLUMNS})
    fan = {"fan": truth.fan, "box": truth.box}
    path.with_suffix(".json").write_text(json.dumps(fan, indent=1), encoding="utf-8")


def read_ground_truth(path: Path) -> ScanGroundTruth:
    """Read what `write_ground_truth` wrote.

    Raises:
        DataError: where the files are missing or not a phantom's truth.
    """
    try:
        fan = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        with np.load(path, allow_pickle=False) as columns:
            arrays = {name: columns[name] for name in COLUMNS}
        return ScanGroundTruth(**arrays, fan=fan["fan"], box=tuple(fan["box"]))
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"phantom truth '{path}': {error}") from None
