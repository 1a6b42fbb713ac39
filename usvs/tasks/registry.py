"""The downstream tasks by name: for the command line, and for loading a saved model."""

from collections.abc import Callable
from typing import Any, NamedTuple

from usvs.config import Profile
from usvs.errors import ConfigError
from usvs.tasks.classification.planes import planes_task
from usvs.tasks.classification.settings import ClassificationSettings, classification_profile
from usvs.tasks.classification.task import ClassificationTask
from usvs.tasks.saliency.settings import SaliencySettings, saliency_profile
from usvs.tasks.saliency.task import SaliencyTask
from usvs.tasks.settings import FinetuneSettings
from usvs.tasks.task import DownstreamTask

AnyTask = DownstreamTask[Any, Any, Any]


class TaskKind(NamedTuple):
    """A class of tasks.

    Attributes:
        task: the class; `from_description` makes one.
        settings: the class of its settings.
        profile: makes the settings of a profile.
    """

    task: type[AnyTask]
    settings: type[FinetuneSettings]
    profile: Callable[[Profile], FinetuneSettings]


KINDS: dict[str, TaskKind] = {
    ClassificationTask.kind: TaskKind(ClassificationTask, ClassificationSettings, classification_profile),
    SaliencyTask.kind: TaskKind(SaliencyTask, SaliencySettings, saliency_profile),
}
NAMED: dict[str, Callable[[], AnyTask]] = {"planes": planes_task, "gaze": SaliencyTask}


def find_task(task: str | AnyTask) -> AnyTask:
    """Return the task of a name, or the task itself.

    Raises:
        ConfigError: for an unknown name.
    """
    if not isinstance(task, str):
        return task
    if task not in NAMED:
        raise ConfigError(f"task: expected {' or '.join(NAMED)} or a task object, got '{task}'")
    return NAMED[task]()
