"""Results as plain values that JSON can hold."""

import json
import math
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def plain_json(value: Any) -> Any:
    """Return a result as dictionaries, lists, texts, numbers and None; a number that is not finite is None.

    Args:
        value: a dataclass, a named tuple, an object with ``to_json`` or ``model_dump``, an array, or any of these in
            mappings and sequences; what has no such form is its text.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (np.generic, np.ndarray)):
        return plain_json(value.tolist())
    if hasattr(value, "to_json"):
        return plain_json(value.to_json())
    if hasattr(value, "model_dump"):
        return plain_json(value.model_dump(mode="json"))
    if hasattr(value, "_asdict"):
        return plain_json(value._asdict())
    if is_dataclass(value):
        return {each.name: plain_json(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, Set)):
        return [plain_json(each) for each in value]
    return str(value)


def json_text(value: Any) -> str:
    """Return a result as JSON in ASCII, which holds no control character."""
    return json.dumps(plain_json(value), indent=1, allow_nan=False)
