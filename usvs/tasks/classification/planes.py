"""Standard-plane detection (section 3.2): classification of frames into the paper's fourteen classes."""

from usvs.archive.labels import STANDARD_PLANES
from usvs.tasks.classification.task import ClassificationTask


def planes_task() -> ClassificationTask:
    """Return the task of standard-plane detection."""
    return ClassificationTask(STANDARD_PLANES, "planes", "standard planes")
