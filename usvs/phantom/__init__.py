"""The phantom archive: honest media whose truth is known; `make_phantom` makes it, `save_phantom_pictures` draws."""

from usvs.phantom.make import PhantomSummary, make_phantom
from usvs.phantom.pictures import save_phantom_pictures
from usvs.phantom.truth import ScanTruth, read_truth, truth_folder

__all__ = ["PhantomSummary", "ScanTruth", "make_phantom", "read_truth", "save_phantom_pictures", "truth_folder"]
