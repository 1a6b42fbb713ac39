"""The frames of a gaze table as they are evaluated: fixations in the coordinates of the central crop."""

import numpy as np

from usvs.data.gaze_table import GazeTable, fixations_inside
from usvs.data.transforms import crop_grid, transform_points
from usvs.errors import DataError
from usvs.models.preprocessing import identity_params
from usvs.store.prepared import PreparedStore
from usvs.tasks.saliency.settings import SaliencySettings


def gaze_in_crop(store: PreparedStore, table: GazeTable, settings: SaliencySettings) -> GazeTable:
    """Return the frames with a fixation in the central crop, fixations and sigma as fractions of that crop.

    Raises:
        DataError: where there is none.
    """
    side, pixels, crop = store.scan(0).frame_pixels, settings.model.frame_pixels, settings.augment.crop_fraction
    params = identity_params(len(table))
    fixations = transform_points(table.fixations, params, side, pixels, crop)
    sigma = table.sigma * side / crop_grid(side, pixels, crop).extents(params)[:, None]
    moved = GazeTable(table.frames, fixations, sigma)
    kept = moved.take(np.any(fixations_inside(fixations), axis=1))
    if not len(kept):
        raise DataError("gaze: no test frame has a fixation inside its central crop")
    return kept
