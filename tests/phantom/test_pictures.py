"""The two figures are drawn from the files of an archive."""

import cv2
import numpy as np
import pytest

from usvs.errors import DataError
from usvs.phantom import make_phantom, save_phantom_pictures
from usvs.phantom.settings import PhantomSettings


@pytest.mark.slow
def test_both_pictures_are_drawn(tmp_path):
    archive = tmp_path / "archive"
    settings = PhantomSettings(scan_seconds=14.0, frame_width=200, frame_height=160)
    make_phantom(archive, patients=1, seed=2, settings=settings)
    real = tmp_path / "real"
    real.mkdir()
    cv2.imwrite(str(real / "4CH.png"), np.full((60, 80, 3), 90, np.uint8))
    for file in save_phantom_pictures(archive, tmp_path / "pictures", real):
        picture = cv2.imread(str(file))
        assert picture is not None and picture.shape[1] > 1000 and picture.std() > 20


def test_an_archive_without_ground_truth_is_named(tmp_path):
    with pytest.raises(DataError, match="no ground truth"):
        save_phantom_pictures(tmp_path / "other", tmp_path / "pictures")
