"""Synthetic archives: encoded media with known ground truth. `make_phantom` writes one."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usvs.phantom.ground_truth import ScanGroundTruth as ScanGroundTruth
    from usvs.phantom.ground_truth import ground_truth_folder as ground_truth_folder
    from usvs.phantom.ground_truth import read_ground_truth as read_ground_truth
    from usvs.phantom.make import PhantomSummary as PhantomSummary
    from usvs.phantom.make import make_phantom as make_phantom
    from usvs.phantom.pictures import save_phantom_pictures as save_phantom_pictures

_MODULES = {  # imported when they are used: the command line reads the settings without OpenCV and PyAV
    "PhantomSummary": "usvs.phantom.make",
    "ScanGroundTruth": "usvs.phantom.ground_truth",
    "ground_truth_folder": "usvs.phantom.ground_truth",
    "make_phantom": "usvs.phantom.make",
    "read_ground_truth": "usvs.phantom.ground_truth",
    "save_phantom_pictures": "usvs.phantom.pictures",
}

__all__ = [
    "PhantomSummary",
    "ScanGroundTruth",
    "ground_truth_folder",
    "make_phantom",
    "read_ground_truth",
    "save_phantom_pictures",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'usvs.phantom' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)
