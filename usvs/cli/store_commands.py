"""Commands about what is in a store or an archive: ls, fetch."""

import argparse

from usvs.cli.log_handler import show
from usvs.cli.options import Commands, add_command


def add_store_commands(commands: Commands) -> None:
    """Add these commands to the command line."""
    command = add_command(commands, "ls", _run_ls)
    command.add_store("a folder made by 'usvs index'; only its owner can read the names in it")
    command.add_argument(
        "names",
        nargs="*",
        default=[],
        metavar="KEY|PATH",
        help="keys of scans or patients, or files or folders of the archive; default: everything",
    )
    command.add_json()

    command = add_command(commands, "fetch", _run_fetch)
    command.add_argument("url", metavar="URL", help="a folder in object storage, as of fsspec: s3://bucket/archive")
    command.add_path("folder", "FOLDER", "its local copy: a new folder, or an earlier copy", "output_folder")
    command.add_json()


def _run_ls(options: argparse.Namespace) -> None:
    """List patients, scans, labels and notes of a store; translate keys to paths of the archive and back.

    Example:
        usvs ls STORE
        usvs ls STORE 3f2a9c01b7de patient_a/visit.mp4
        usvs ls STORE --json
    """
    from usvs.store.listing import list_store

    show(options, list_store(options.store, options.names))


def _run_fetch(options: argparse.Namespace) -> None:
    """Copy an archive or a store from object storage, or what has changed in it since the last copy.

    Example:
        usvs fetch s3://bucket/archive ARCHIVE && usvs index ARCHIVE STORE
        usvs fetch gs://bucket/store STORE && usvs pretrain STORE RUN
    """
    from usvs.utils.fetch_folder import fetch_folder

    result = fetch_folder(options.url, options.folder)
    show(options, result)
