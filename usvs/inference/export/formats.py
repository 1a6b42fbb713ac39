"""The formats of an export: what each writes, how it is read again, and the Python lines that do so."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from torch import Tensor, nn

from usvs import __version__
from usvs.errors import MissingDependencyError
from usvs.inference.export import programs
from usvs.inference.export.source import ExportSource, read_source
from usvs.inference.export.timm_names import as_timm, write_timm
from usvs.models.encoder import EncoderAdapter
from usvs.models.se_resnext import SEResNeXt
from usvs.models.timm_encoder import import_timm
from usvs.tasks.encoder_files import save_encoder
from usvs.tasks.model_files import save_model
from usvs.tasks.model_folder import DESCRIPTION, FORMAT
from usvs.training.run_folder import CONFIG, PATIENTS
from usvs.utils.atomic_files import write_text

ExportFormat: TypeAlias = Literal["folder", "timm", "torchscript", "torch-export", "onnx"]
RUN_FILES = (CONFIG, PATIENTS)  # of the run, beside an encoder: see `usvs.tasks.encoder_files`

Program: TypeAlias = Callable[[Tensor], Tensor]


class ProgramFormat(NamedTuple):
    """A format that is one file.

    Attributes:
        file: name of the file.
        title: of the format.
        save: writes it: a program, example images, the file, its description.
        load: reads it; None where what runs it is not installed.
        loading: lines of Python that read it as `network`.
        call: the call among them.
    """

    file: str
    title: str
    save: Callable[[nn.Module, Tensor, Path, dict[str, Any]], None]
    load: Callable[[Path], Program | None]
    loading: tuple[str, ...]
    call: str


PROGRAMS: dict[str, ProgramFormat] = {
    "torchscript": ProgramFormat(
        "model.pt",
        "TorchScript",
        programs.save_torchscript,
        programs.load_torchscript,
        ("import torch", "", 'network = torch.jit.load("model.pt")'),
        'torch.jit.load("model.pt")',
    ),
    "torch-export": ProgramFormat(
        "model.pt2",
        "a program of torch.export",
        programs.save_torch_export,
        programs.load_torch_export,
        ("import torch", "", 'network = torch.export.load("model.pt2").module()'),
        'torch.export.load("model.pt2").module()',
    ),
    "onnx": ProgramFormat(
        "model.onnx",
        "ONNX",
        programs.save_onnx,
        programs.load_onnx,
        (
            "import onnxruntime",
            "",
            'session = onnxruntime.InferenceSession("model.onnx")',
            f'network = lambda images: session.run(None, {{"{programs.INPUT}": images.numpy()}})[0]',
        ),
        'onnxruntime.InferenceSession("model.onnx")',
    ),
}


class Written(NamedTuple):
    """An export that has been written.

    Attributes:
        title: of the format.
        loading: lines of Python that load it as `network`, run in its folder.
        call: the call among them.
        load: reads it again; the result is None where what runs it is not installed.
    """

    title: str
    loading: tuple[str, ...]
    call: str
    load: Callable[[], Program | None]


def write_format(
    source: ExportSource,
    program: nn.Module,
    images: Tensor,
    folder: Path,
    format: ExportFormat,
    encoder: nn.Module | None = None,
) -> Written:
    """Write a network into an existing folder.

    Args:
        source: the network.
        program: it as one module.
        images: examples of its input, at least two.
        folder: that is written to.
        format: of the files.
        encoder: as of `read_source`.

    Raises:
        ConfigError: for a network that the format cannot express.
        MissingDependencyError: where a package that writes the format is not installed.
    """
    if format == "folder":
        return _write_folder(source, folder, encoder)
    if format == "timm":
        return _write_timm(source, folder)
    one, described = PROGRAMS[format], describe_program(source)
    one.save(program, images, folder / one.file, described)
    write_text(folder / DESCRIPTION, json.dumps(described, indent=1) + "\n")
    return Written(one.title, one.loading, one.call, lambda: one.load(folder / one.file))


def describe_program(source: ExportSource) -> dict[str, Any]:
    """Return what a user of a program needs to know: its input, its output, its classes."""
    return {
        "format": FORMAT,
        "kind": f"{source.kind} program",
        "input": {"name": programs.INPUT, "shape": ["n", *source.input["input_size"]], **source.input},
        "output": source.output,
        "classes": list(source.classes),
        "versions": {"usvs": __version__},
    }


def _write_folder(source: ExportSource, folder: Path, encoder: nn.Module | None) -> Written:
    if source.kind == "encoder":
        save_encoder(folder, source.encoder)
        for name in RUN_FILES:
            if source.run is not None and (source.run / name).is_file():
                shutil.copyfile(source.run / name, folder / name)
        call = 'usvs.load_encoder(".")'
        lines: tuple[str, ...] = (
            "import usvs",
            "",
            f"network = {call}  # features = network(network.preprocess(images))",
        )
    else:
        for number, model in enumerate(source.models):
            save_model(folder if len(source.models) == 1 else folder / f"fold_{number}", model)
        name, method = {
            "classification": ("FrameClassifier", "predict_proba"),
            "saliency": ("SaliencyModel", "predict"),
        }[source.kind]
        call = f'usvs.{name}.from_pretrained(".")'
        lines = ("import usvs", "", f"network = {call}  # network.{method}(images)")
    return Written(
        "a folder of safetensors and JSON",
        lines,
        call,
        lambda: programs.make_program(read_source(folder, encoder)),
    )


def _write_timm(source: ExportSource, folder: Path) -> Written:
    made = as_timm(source)
    write_timm(source, made, folder)
    lines = (
        "import timm",
        "from safetensors.torch import load_file",
        "",
        f"network = {made.call}",
        'network.load_state_dict(load_file("model.safetensors"))',
        'network.eval()  # the same: timm.create_model("local-dir:FOLDER", pretrained=True)',
    )

    def load() -> Program | None:
        try:
            timm = import_timm("export")
        except MissingDependencyError:
            return None
        network = timm.create_model(made.architecture, **made.arguments)
        network.load_state_dict(made.tensors)
        if source.kind == "classification":
            return lambda images: network.eval()(images).softmax(dim=1)
        if isinstance(source.encoder, SEResNeXt):
            program: Program = network.eval()  # its features are the means of its maps as well
            return program
        return EncoderAdapter(network, source.encoder.in_chans, mean=made.mean, std=made.std).eval()

    normalised = f"input normalised with mean {made.mean} and std {made.std} for levels in 0 .. 1"
    return Written(f"weights with timm's names ({normalised})", lines, made.call, load)
