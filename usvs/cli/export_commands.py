"""Commands that hand a trained network to other programs: export."""

import argparse

from usvs.cli.log_handler import show
from usvs.cli.options import Commands, add_command

FORMATS = {
    "folder": "safetensors and JSON, for usvs",
    "timm": "weights with timm's names and the call that makes the network",
    "torchscript": "one file for torch.jit.load",
    "torch-export": "one file for torch.export.load",
    "onnx": "one file for ONNX runtimes",
}


def add_export_commands(commands: Commands) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "export", _run_export)
    command.add_path(
        "run", "RUN", "a run of 'usvs pretrain' or 'usvs finetune', or a part of one: CHECKPOINT, INIT, FOLD", "folder"
    )
    command.add_path("out", "OUT", "a new folder for the network and its model card", "output_folder")
    command.add_choice(
        "--format",
        FORMATS,
        "; ".join(f"{name}: {what}" for name, what in FORMATS.items()) + "; default: folder",
        "folder",
    )
    command.add_json()


def _run_export(options: argparse.Namespace) -> None:
    """Write a trained network for other programs, with a model card.

    Example:
        usvs export RUN OUT
        usvs export RUN OUT --format onnx
        usvs export PLANES/models/pretrained/fold_0 OUT --format timm
    """
    from usvs.inference.export.export import export_model

    found = export_model(options.run, options.out, options.format)
    show(options, found)
