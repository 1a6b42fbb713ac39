"""timm itself for tests, also beside a CPU build of torch."""

import importlib
import sys
from typing import Any

import pytest
import torch

OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
SIGNATURES = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def import_real_timm() -> Any:
    """Return the package; skip the test where it is not installed.

    timm imports torchvision, whose compiled operators are linked to CUDA in the wheel of the package index. Where they
    do not load, torchvision is imported with the signatures of those that it registers functions for: timm calls none.
    """
    try:
        pytest.importorskip("torchvision", exc_type=ModuleNotFoundError)
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        _import_torchvision_without_operators()
    return pytest.importorskip("timm", exc_type=ModuleNotFoundError)


def _import_torchvision_without_operators() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    for signature in SIGNATURES:
        OPERATORS.define(signature)
    importlib.import_module("torchvision")
