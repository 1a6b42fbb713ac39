"""The phantom archive: honest media whose truth is known. `make_phantom` writes one."""

from usvs.phantom.make import PhantomSummary, make_phantom
from usvs.phantom.truth import ScanTruth, read_truth, truth_folder

__all__ = ["PhantomSummary", "ScanTruth", "make_phantom", "read_truth", "truth_folder"]
