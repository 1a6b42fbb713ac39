"""Command for reports: report."""

import argparse

from usvs.cli.log_handler import show
from usvs.cli.options import Commands, add_command


def add_report_commands(commands: Commands) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "report", _run_report)
    command.add_path(
        "folder", "RUN|STORE", "a run of 'usvs pretrain' or 'usvs finetune', or a store of 'usvs index'", "folder"
    )
    command.add_path(
        "--store",
        "STORE",
        "of a run: the store that it was trained on; adds verdict, retrieval and map of embeddings, or timelines of"
        " test scans",
        "folder",
    )
    command.add_path(
        "--labels",
        "LABELS",
        "of a pretraining, with --store: what is visible when, as of 'usvs diagnose'; default: the labels of the store",
    )
    command.add_switch("--names", "show the paths of files; default: keyed hashes only, no name of the archive")
    command.add_path("--out", "FILE", "the file to write; default: report.html in the folder", "output_file")
    command.add_json()


def _run_report(options: argparse.Namespace) -> None:
    """Write a report of a run or a store: one HTML file that can be opened while a run is going on.

    Example:
        usvs report STORE
        usvs report RUN --store STORE
        usvs report FINETUNED --store STORE --out report.html
    """
    from usvs.report.html import save_report

    file = save_report(options.folder, store=options.store, labels=options.labels, names=options.names, out=options.out)
    size = file.stat().st_size
    show(options, f"report: '{file}' ({size / 1e6:.1f} MB)", {"report": file, "bytes": size})
