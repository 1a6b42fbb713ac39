"""Ground truth of a phantom scan, in a folder that neither indexing nor training reads."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usvs.errors import DataError
from usvs.narration.narration import Narration
from usvs.phantom.gaze import Gaze, gaze_at
from usvs.phantom.scan import PhantomScan
from usvs.utils.regular_files import read_regular_text


@dataclass(frozen=True)
class ScanGroundTruth:
    """Ground truth of a scan.

    Attributes:
        frame_seconds: [n] times of the frames.
        plane: [n] index in STANDARD_PLANES.
        pose: [n, 4] of the transducer in the tissue: x and y in tissue units, rotation in radians, magnification.
        landmark: [n, 2] the plane's main landmark as fractions of the video frame.
        gaze: [n, 2] mean valid gaze of the frame as fractions of the video frame; NaN if there is none.
        speech: [m] at 100 Hz: whether there is audible speech.
        topic: [m] at 100 Hz: index of the plane spoken of; -1 silence, -2 another topic.
        sector: width, height, apex_x, apex_y, inner_radius, outer_radius (pixels), half_angle (radians).
        crop: left, top, right, bottom (exclusive) of the largest rectangle in the sector, pixels.
    """

    frame_seconds: NDArray[np.float64]
    plane: NDArray[np.int16]
    pose: NDArray[np.float32]
    landmark: NDArray[np.float32]
    gaze: NDArray[np.float32]
    speech: NDArray[np.bool_]
    topic: NDArray[np.int16]
    sector: dict[str, Any]
    crop: tuple[int, int, int, int]


COLUMNS = ("frame_seconds", "plane", "pose", "landmark", "gaze", "speech", "topic")


def collect_ground_truth(
    scan: PhantomScan, landmarks: list[NDArray[np.float64]], gaze: Gaze, narration: Narration
) -> ScanGroundTruth:
    """Collect the ground truth of a scan from its parts."""
    seconds = np.arange(scan.frames) / scan.rate_hz
    return ScanGroundTruth(
        frame_seconds=seconds,
        plane=scan.planes(),
        pose=np.array([[p.x, p.y, p.turn, p.zoom] for visit in scan.poses for p in visit], np.float32),
        landmark=np.array([points[0] for points in landmarks], np.float32),
        gaze=gaze_at(gaze, seconds, 0.5 / scan.rate_hz),
        speech=narration.speech,
        topic=narration.topic,
        sector=asdict(scan.sector),
        crop=scan.sector.inscribed_crop(),
    )


def write_ground_truth(path: Path, ground_truth: ScanGroundTruth) -> None:
    """Write `path` (.npz), and the geometry of the sector to a .json file of the same name."""
    np.savez_compressed(path, **{name: getattr(ground_truth, name) for name in COLUMNS})
    geometry = {"sector": ground_truth.sector, "crop": ground_truth.crop}
    path.with_suffix(".json").write_text(json.dumps(geometry, indent=1), encoding="utf-8")


def read_ground_truth(path: Path) -> ScanGroundTruth:
    """Read the ground truth of a scan, given its .npz file.

    Raises:
        DataError: if the files are missing or damaged.
    """
    try:
        geometry = json.loads(read_regular_text(path.with_suffix(".json")))
        with np.load(path, allow_pickle=False) as columns:
            arrays = {name: columns[name] for name in COLUMNS}
        return ScanGroundTruth(**arrays, sector=geometry["sector"], crop=tuple(geometry["crop"]))
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"ground truth '{path}': {error}") from None
