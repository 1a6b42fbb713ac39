"""The downstream tasks by name: for the command line, and for loading a saved model."""

from collections.abc import Callable
from typing import Any, NamedTuple

from usvs.config import Profile
from usvs.errors import ConfigError
from usvs.store.prepared import PreparedStore
from usvs.tasks.classification.own_labels import classify_task
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


CLASSIFY = "classify"  # its classes are those of a store


def task_kind(task: str | AnyTask) -> TaskKind:
    """Return the class of a task, and of its settings; errors as of `find_task`."""
    return KINDS[ClassificationTask.kind if task == CLASSIFY else find_task(task).kind]


def find_task(task: str | AnyTask, store: PreparedStore | None = None, label_column: str | None = None) -> AnyTask:
    """Return the task of a name, or the task itself.

    Args:
        task: ``planes``, ``gaze``, ``classify``, or a task.
        store: whose labels `classify` learns.
        label_column: of them; None: see `usvs.tasks.classification.own_labels.classify_task`.

    Raises:
        ConfigError: for an unknown name, or a label column for a task with fixed classes.
        DataError: for a store without labels.
    """
    if task == CLASSIFY and store is not None:
        return classify_task(store, label_column)
    if label_column is not None:
        name = task if isinstance(task, str) else task.name
        raise ConfigError(f"setting 'label_column': expected task '{CLASSIFY}', got task '{name}' with fixed classes")
    if not isinstance(task, str):
        return task
    if task not in NAMED:
        raise ConfigError(f"task: expected {' or '.join((*NAMED, CLASSIFY))} or a task object, got '{task}'")
    return NAMED[task]()
