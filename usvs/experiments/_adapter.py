"""Temporary: today's protocols behind the coming interface of usvs.tasks.cross_validation."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from usvs.archive.plane_labels import PLANES
from usvs.data.frame_table import labelled_frames
from usvs.data.gaze_table import gaze_frames
from usvs.tasks.protocols import measure_fold as _planes, measure_frozen_fold, measure_gaze_fold


@dataclass(frozen=True)
class Task:
    name: str

    def dataset(self, store, settings, group_by="patient"):
        if self.name == "planes":
            return labelled_frames(store, settings.temporal_stride, group_by)
        from usvs.data.gaze_table import GazeTable

        GazeTable.group = property(lambda self: self.frames.group)
        return gaze_frames(store, settings, group_by)


PLANES_TASK, GAZE_TASK = Task("planes"), Task("gaze")


class Metrics:
    def __init__(self, metrics):
        self.m = metrics

    def __str__(self):
        m = self.m
        return f"macro F1 {100 * m.f1:.1f} %" if hasattr(m, "f1") else f"KL {m.kl:.2f}, NSS {m.nss:.2f}, CC {m.cc:.2f}"


def measure_fold(task, store, table, fold, settings, init, protocol, ranks=None) -> Any:
    module = None
    if task.name == "gaze":
        result, module = measure_gaze_fold(store, table, fold, settings, init)
    elif protocol == "finetune":
        result, module = _planes(store, table, fold, settings, init, "finetune")
    else:
        result = measure_frozen_fold(store, table, fold, settings, init)[protocol]
    return SimpleNamespace(
        fold=fold, metrics=Metrics(result.metrics), seconds=result.seconds, module=module, to_json=result.to_json
    )
