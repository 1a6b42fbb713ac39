"""Results of the long checks of the Makefile, as JSON files in docs/results."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from usvs.training.environment import describe_environment


def save_result(file: Path, values: Mapping[str, Any]) -> None:
    """Write what was measured, with revision, device and packages."""
    described = {**values, "environment": describe_environment(torch.device("cpu"))}
    file.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
