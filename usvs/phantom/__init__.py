"""Synthetic archives: encoded media with known ground truth. `make_phantom` writes one."""

from usvs.phantom.ground_truth import ScanGroundTruth, ground_truth_folder, read_ground_truth
from usvs.phantom.make import PhantomSummary, make_phantom
from usvs.phantom.pictures import save_phantom_pictures

__all__ = [
    "PhantomSummary",
    "ScanGroundTruth",
    "ground_truth_folder",
    "make_phantom",
    "read_ground_truth",
    "save_phantom_pictures",
]
