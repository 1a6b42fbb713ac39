"""A trained network as one module from images to its output, and as TorchScript, torch.export and ONNX files.

This file holds scripted modules: no postponed annotations, no keyword-only arguments with defaults.
"""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from usvs.errors import ConfigError
from usvs.inference.export.source import ExportSource
from usvs.models.batch_norm_act import fuse_batch_norms
from usvs.tasks.model_folder import DESCRIPTION
from usvs.utils.dependencies import missing_dependency

INPUT = "images"
OPSET = 18


class EncoderProgram(nn.Module):
    """Standardised images [n, C, P, P] to features [n, D]."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """Return the means of the feature maps."""
        features: Tensor = self.encoder(images)
        return features


class EnsembleProgram(nn.Module):
    """Several models of one task, whose predictions are averaged."""

    def __init__(self, models: list[nn.Module]) -> None:
        super().__init__()
        self.models: Any = nn.ModuleList(models)
        self.count: int = len(models)


class ClassificationProgram(EnsembleProgram):
    """Standardised images [n, 1, P, P] to probabilities [n, classes], the mean over several models."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the probability of each class."""
        total = torch.zeros(1, 1, dtype=images.dtype, device=images.device)
        for model in self.models:
            total = total + torch.softmax(model.logits(images), dim=1)
        return total / self.count


class SaliencyProgram(EnsembleProgram):
    """Standardised images [n, 1, P, P] to densities of gaze [n, P, P], the mean over several models."""

    def forward(self, images: Tensor) -> Tensor:
        """Return a density that sums to 1 over the pixels of an image."""
        total = torch.zeros(1, 1, 1, dtype=images.dtype, device=images.device)
        for model in self.models:
            total = total + torch.exp(model.log_density(images))
        return total / self.count


def make_program(source: ExportSource) -> nn.Module:
    """Return the network as one module in evaluation mode, from standardised images to its output."""
    if source.kind == "encoder":
        program: nn.Module = EncoderProgram(source.encoder)
    else:
        kind = ClassificationProgram if source.kind == "classification" else SaliencyProgram
        program = kind([model.module for model in source.models])
    fuse_batch_norms(program, False)  # one that was just trained: a file of it needs no op of usvs
    return program.eval().requires_grad_(False)


def example_images(source: ExportSource, count: int = 3) -> Tensor:
    """Return random standardised images [count, C, P, P]; the same in every call."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *source.input["input_size"], generator=generator)


def save_torchscript(program: nn.Module, images: Tensor, file: Path, description: Mapping[str, Any]) -> None:
    """Write a TorchScript file; ``model.json`` is in it as well.

    Raises:
        ConfigError: for a network that TorchScript cannot express.
    """
    del images  # it is scripted, not traced
    with _converting("torchscript"):
        scripted = torch.jit.script(program)
    content = io.BytesIO()  # given a file, torch ends the process where the disk is full
    torch.jit.save(scripted, content, {DESCRIPTION: json.dumps(description)})
    file.write_bytes(content.getbuffer())


def save_torch_export(program: nn.Module, images: Tensor, file: Path, description: Mapping[str, Any]) -> None:
    """Write a program of torch.export with any number of images; ``model.json`` is in it as well.

    Raises:
        ConfigError: for a network that torch.export cannot express.
    """
    with _converting("torch-export"):
        exported = torch.export.export(program, (images,), dynamic_shapes=({0: torch.export.Dim("n")},))
    content = io.BytesIO()  # as above
    torch.export.save(exported, content, extra_files={DESCRIPTION: json.dumps(description)})
    file.write_bytes(content.getbuffer())


def save_onnx(program: nn.Module, images: Tensor, file: Path, description: Mapping[str, Any]) -> None:
    """Write an ONNX file with any number of images; ``model.json`` is among its metadata.

    Raises:
        ConfigError: for a network that ONNX cannot express.
        MissingDependencyError: where onnx or onnxscript is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise missing_dependency(error) from None
    with _converting("onnx"):
        found: Any = torch.onnx.export(
            program,
            (images,),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=[description["output"]["name"]],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            opset_version=OPSET,
        )
    found.model.metadata_props[DESCRIPTION] = json.dumps(description)
    found.save(str(file), external_data=False)


def load_torchscript(file: Path) -> Callable[[Tensor], Tensor]:
    """Return the program of a TorchScript file."""
    with _quiet():
        program: Callable[[Tensor], Tensor] = torch.jit.load(str(file))  # type: ignore[no-untyped-call]
    return program


def load_torch_export(file: Path) -> Callable[[Tensor], Tensor]:
    """Return the program of a torch.export file."""
    with _quiet():
        program: Callable[[Tensor], Tensor] = torch.export.load(file).module()
    return program


def load_onnx(file: Path) -> Callable[[Tensor], Tensor] | None:
    """Return the program of an ONNX file; None where onnxruntime is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])


@contextmanager
def _converting(name: str) -> Iterator[None]:
    """Turn whatever a converter raises for a network into one error."""
    try:
        with _quiet():
            yield
    except Exception as error:  # converters raise errors of many classes
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines or [type(error).__name__])[0]
        raise ConfigError(
            f"export: format {name} cannot express this network ({reason}): choose another one"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converters' own notes, on what torch plans for its next versions, out of the output."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
