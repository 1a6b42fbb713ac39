"""Predictions as files: CSV, JSON or Parquet, by the ending of the name; a row per image or frame."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from usvs.errors import ConfigError
from usvs.inference.predict import PredictionTable
from usvs.utils.atomic_files import write_durably, writing
from usvs.utils.private_files import make_private_folder
from usvs.utils.text import utf8_text

SUFFIXES = (".csv", ".json", ".parquet")
PROBABILITY = "p_"  # before the name of a class, in the name of a column


def check_prediction_file(file: Path) -> Path:
    """Return a file if its name has a known ending.

    Raises:
        ConfigError: otherwise.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out: expected a name that ends in {', '.join(SUFFIXES)}, got '{file}'")
    return file


def prediction_table(found: PredictionTable) -> pa.Table:
    """Return a table: file, seconds, class, confidence, doubtful, known, error, and ``p_CLASS`` for each class.

    ``known`` is the label of a store's frame. Values that are not known are null.
    """
    rows, nothing = found.predictions, (None,) * len(found.classes)
    columns: dict[str, Any] = {
        "file": pa.array([utf8_text(str(row.file)) for row in rows], pa.string()),
        "seconds": pa.array([row.seconds for row in rows], pa.float64()),
        "class": pa.array([row.label or None for row in rows], pa.string()),
        "confidence": pa.array([None if row.error else row.confidence for row in rows], pa.float64()),
        "doubtful": pa.array([found.is_doubtful(row) for row in rows], pa.bool_()),
        "known": pa.array([row.known for row in rows], pa.string()),
        "error": pa.array([row.error and utf8_text(row.error) for row in rows], pa.string()),
    }
    for number, name in enumerate(found.classes.names):
        values = [(row.probabilities or nothing)[number] for row in rows]
        columns[f"{PROBABILITY}{name}"] = pa.array(values, pa.float64())
    return pa.table(columns)


def prediction_rows(found: PredictionTable) -> list[dict[str, Any]]:
    """Return the rows of `prediction_table` as dictionaries, for JSON."""
    rows: list[dict[str, Any]] = prediction_table(found).to_pylist()
    return rows


def save_predictions(found: PredictionTable, file: str | Path) -> Path:
    """Write predictions; an older file is replaced when the new one is complete.

    Args:
        found: of `predict_frames`.
        file: ends in ``.csv``, ``.json`` (a list of objects) or ``.parquet``.

    Raises:
        ConfigError: for another ending.
        ResourceError: where the disk is full or not writable.
    """
    target, table, content = check_prediction_file(Path(file)), prediction_table(found), io.BytesIO()
    if target.suffix.lower() == ".json":
        content.write(json.dumps(prediction_rows(found), indent=1).encode())
    elif target.suffix.lower() == ".csv":
        pa.csv.write_csv(table, content)
    else:
        pa.parquet.write_table(table, content)
    with writing(f"'{target}'"):
        make_private_folder(target.parent)
        write_durably(target, content.getvalue())
    return target
