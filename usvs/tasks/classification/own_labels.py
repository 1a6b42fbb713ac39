"""Classification by the labels of a store: any classes, of the label column that is chosen."""

from usvs.archive.class_list import ClassList
from usvs.archive.labels import PLANE_COLUMN
from usvs.errors import DataError
from usvs.store.prepared import PreparedStore
from usvs.store.store_labels import check_classes
from usvs.tasks.classification.planes import planes_task
from usvs.tasks.classification.task import ClassificationTask


def classify_task(store: PreparedStore, column: str | None = None) -> ClassificationTask:
    """Return the task of predicting the classes of a label column.

    Args:
        store: with labels.
        column: of the labels; None: the only one, or ``label``.

    Raises:
        DataError: for a store without labels, or a column with labels of fewer than two classes.
        ConfigError: for a column that the store does not have, or none where there are several.
    """
    classes = store.labels.class_list(store.labels.choose_column(column))
    if len(classes) < 2:
        raise DataError(
            f"label column '{classes.column}': expected at least two classes, got {', '.join(classes.names) or 'none'}"
        )
    return ClassificationTask(classes, title=f"classification by '{classes.column}'")


def default_task(store: PreparedStore, column: str | None = None) -> ClassificationTask:
    """Return `classify_task` for a column that is chosen, or where the store has no labels but of one column.

    Otherwise the standard planes; their dataset says what is missing or can be chosen. Errors as of `classify_task`.
    """
    is_own = column is not None or (len(store.labels.classes) == 1 and not has_planes(store))
    return classify_task(store, column) if is_own else planes_task()


def check_store_classes(task: ClassificationTask, store: PreparedStore) -> None:
    """Check that a store has no labels of other classes than a model's task.

    Raises:
        DataError: otherwise, with the lists of both.
    """
    is_planes = task.class_list.column == PLANE_COLUMN and task.label_classes is None
    if not (is_planes and has_planes(store)):
        check_classes(task.class_list, store.labels)


def default_class_list(store: PreparedStore) -> ClassList | None:
    """Return the classes by which frames are labelled where nobody chooses: None for planes, or for several columns."""
    return next(iter(store.labels.classes.values())) if len(store.labels.classes) == 1 else None


def has_planes(store: PreparedStore) -> bool:
    """Return whether any scan of a store has labels of standard planes."""
    return any(store.scan(number).planes is not None for number in range(len(store.scans)))
