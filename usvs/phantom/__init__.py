"""The phantom archive: honest media whose truth is known; `make_phantom` makes it, `save_phantom_pictures` draws."""

from usvs.phantom.ground_truth import ScanGroundTruth, ground_truth_folder, read_ground_truth
from usvs.phantom.make import PhantomSummary, make_phantom
from usvs.phantom.pictures import save_phantom_pictures

__all__ = [
    "PhantomSummary",
    "ScanGroundTruth",
    "make_phantom",
    "read_ground_truth",
    "save_phantom_pictures",
    "ground_truth_folder",
]
