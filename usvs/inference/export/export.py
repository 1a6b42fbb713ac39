"""`usvs.export_model`: a trained network in the format of another program, with its model card."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from usvs.errors import ConfigError, DataError
from usvs.inference.export.figures import read_facts
from usvs.inference.export.formats import ExportFormat, write_format
from usvs.inference.export.model_card import model_card
from usvs.inference.export.programs import example_images, make_program
from usvs.inference.export.source import ExportSource, read_source
from usvs.training.run_folder import PATIENTS
from usvs.utils.atomic_files import replacing_folder, write_text, writing
from usvs.utils.private_files import make_private

CARD = "README.md"
TOLERANCE = 1e-5  # of the largest output


@dataclass(frozen=True)
class Exported:
    """Summary of an export.

    Attributes:
        folder: that was written.
        format: of the network.
        kind: ``encoder``, ``classification`` or ``saliency``.
        files: names of the files.
        input_shape: of the network's input; ``n`` is any number.
        output_shape: of its output.
        classes: names of the classes, in the order of the output.
        difference: largest difference of the exported network's output from the original's, for random images; None
            where the program that runs the format is not installed.
        largest: largest output in this comparison.
        call: the Python call that makes or loads the network.
    """

    folder: Path
    format: ExportFormat
    kind: str
    files: tuple[str, ...]
    input_shape: tuple[int | str, ...]
    output_shape: tuple[int | str, ...]
    classes: tuple[str, ...]
    difference: float | None
    largest: float | None
    call: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "folder": str(self.folder)}

    def __str__(self) -> str:
        """Return sentences: what was written, how it compares, how it is loaded."""
        shapes = " to ".join(f"[{', '.join(map(str, shape))}]" for shape in (self.input_shape, self.output_shape))
        classes = f", {len(self.classes)} classes" if self.classes else ""
        written = f"export: {self.kind} ({shapes}{classes}) as {self.format} in '{self.folder}'"
        return f"{written}\n{_difference_text(self.difference, self.largest, self.format)}\nload it by: {self.call}"


def export_model(
    run: str | Path, out: str | Path, format: ExportFormat = "folder", *, encoder: nn.Module | None = None
) -> Exported:
    """Write a trained network for other programs, with a model card (``README.md``).

    The exported network is read again and compared with the original on random images.

    Example:
        >>> usvs.export_model("RUN", "OUT", "onnx")

    Args:
        run: a pretraining run, one of its checkpoints or a saved encoder; or a run of `usvs.finetune` (its best init),
            one init of it, one fold of that, or a folder of `usvs.save_model`. Several folds are averaged.
        out: a new folder.
        format: ``folder``, safetensors and JSON for `usvs.load_encoder`, `usvs.FrameClassifier.from_pretrained` and
            `usvs.SaliencyModel.from_pretrained`; ``timm``, weights with timm's names and the call that makes the
            network; ``torchscript``, ``torch-export`` or ``onnx``, one file that is called with standardised images.
        encoder: a module of the trained class, for networks with an own encoder that is not registered.

    Returns:
        What was written, the difference and the call that loads it.

    Raises:
        ConfigError: for an unknown format, a network that it cannot express, or a folder with content.
        DataError: where there is no network in `run`, or it is damaged, or the exported one computes something else.
        MissingDependencyError: where a package that writes the format is not installed.
        ResourceError: where the disk is full or not writable.
    """
    target = Path(out)
    if format not in get_args(ExportFormat):
        raise ConfigError(f"export: expected format {' or '.join(get_args(ExportFormat))}, got '{format}'")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"export: '{target}': expected a new folder, got one with content")
    source = read_source(run, encoder)
    with writing(f"export '{target}'"), replacing_folder(target) as partial:
        found = _write(source, partial, target, format, encoder)
    return found


def _write(
    source: ExportSource, folder: Path, target: Path, format: ExportFormat, encoder: nn.Module | None
) -> Exported:
    program, images = make_program(source), example_images(source)
    with torch.inference_mode():
        expected = program(images)
    written = write_format(source, program, images[:2], folder, format, encoder)
    difference, largest = _compare(written.load, images, expected)
    text = _difference_text(difference, largest, format)
    has_patients = (folder / PATIENTS).is_file()
    write_text(
        folder / CARD, model_card(source, read_facts(source), written.title, written.loading, text, has_patients)
    )
    for file in sorted(folder.iterdir()):
        make_private(file)
    return Exported(
        target,
        format,
        source.kind,
        tuple(sorted(file.name for file in folder.iterdir())),
        ("n", *source.input["input_size"]),
        tuple(source.output["shape"]),
        source.classes,
        difference,
        largest,
        written.call,
    )


def _compare(
    load: Callable[[], Callable[[Tensor], Tensor] | None], images: Tensor, expected: Tensor
) -> tuple[float | None, float | None]:
    """Return the largest difference of the exported network's output and the largest output; None if it cannot run.

    Raises:
        DataError: for a difference above `TOLERANCE`.
    """
    network = load()
    if network is None:
        return None, None
    with torch.inference_mode():
        found = network(images)
    if found.shape != expected.shape:
        raise DataError(f"export: expected an output {list(expected.shape)}, got {list(found.shape)}")
    difference, largest = float((found - expected).abs().max()), float(expected.abs().max())
    if not difference <= TOLERANCE * max(largest, 1.0):
        raise DataError(
            f"export: the exported network differs from the original: expected at most {TOLERANCE:g} of {largest:.3g},"
            f" got {difference:.3g}"
        )
    return difference, largest


def _difference_text(difference: float | None, largest: float | None, format: ExportFormat) -> str:
    if difference is None or largest is None:
        runner = {"timm": "timm", "onnx": "onnxruntime"}.get(format, format)
        return f"Not compared with the original: {runner} is not installed here."
    return (
        f"Compared with the original on random images: largest difference {difference:.2g}, of outputs up to"
        f" {largest:.3g}."
    )
