"""Standard-plane detection (section 3.2): classification of frames into the paper's fourteen classes."""

from usvs.archive.labels import standard_planes
from usvs.tasks.classification.task import ClassificationTask


def planes_task() -> ClassificationTask:
    """Return the task of standard-plane detection."""
    return ClassificationTask(standard_planes(), "planes", "standard planes")
