"""Synthetic archives: encoded media with known ground truth. `make_phantom` writes one."""

from typing import TYPE_CHECKING

from usvs.utils.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from usvs.narration.new_archive import ground_truth_folder as ground_truth_folder
    from usvs.phantom.ground_truth import ScanGroundTruth as ScanGroundTruth
    from usvs.phantom.ground_truth import read_ground_truth as read_ground_truth
    from usvs.phantom.make import PhantomSummary as PhantomSummary
    from usvs.phantom.make import make_phantom as make_phantom
    from usvs.phantom.pictures import save_phantom_pictures as save_phantom_pictures

lazy_attributes(
    "usvs.phantom",
    {
        "ground_truth": ("ScanGroundTruth", "read_ground_truth"),
        "make": ("PhantomSummary", "ground_truth_folder", "make_phantom"),
        "pictures": ("save_phantom_pictures",),
    },
)
