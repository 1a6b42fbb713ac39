"""Commands about the archive: phantom, index, prepare, audit, import."""

import argparse
import logging
from contextlib import nullcontext
from pathlib import Path

from usvs.archive.importers import IMPORTERS, parse_label_map
from usvs.archive.settings import GazeSettings
from usvs.audio.settings import VoiceActivitySettings
from usvs.cli.options import Commands, add_settings_options, chosen_profile, chosen_settings, count
from usvs.config import Settings
from usvs.errors import DataError
from usvs.phantom.settings import PhantomSettings
from usvs.store.settings import ClipSettings, prepare_profile

logger = logging.getLogger(__name__)


def add_archive_commands(commands: Commands) -> None:
    """Add them to the command."""
    command = commands.add_parser("phantom", help="make a synthetic archive of narrated scans with known truth")
    command.add_argument("out", type=Path, metavar="OUT", help="a new folder; the truth goes to OUT.truth beside it")
    command.add_argument("--patients", type=count, default=20)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--pictures", type=Path, help="also draw planes and narration into this folder")
    command.add_argument("--real", type=Path, help="real frames to show beside the phantom's in the pictures")
    add_settings_options(command)
    command.set_defaults(run_command=_phantom)

    command = commands.add_parser("index", help="find the scans of an archive and what each one has")
    command.add_argument("archive", type=Path, metavar="ARCHIVE", help="a folder of scans; never written to")
    command.add_argument("store", type=Path, metavar="STORE", help="a private folder for all that is derived")
    command.add_argument("--workers", type=count, help="processes; default: one a core")
    add_settings_options(command)
    command.set_defaults(run_command=_index)

    command = commands.add_parser("prepare", help="write the fast store: frames, speech, gaze and labels of each scan")
    command.add_argument("store", type=Path, metavar="STORE")
    command.add_argument("--workers", type=count, help="processes; default: one a core")
    command.add_argument("--dask", metavar="ADDRESS", help="work on a Dask cluster that sees both folders")
    add_settings_options(command, profile=True)
    command.set_defaults(run_command=_prepare)
    _add_audit_verb(commands)
    _add_import_commands(commands)


def _add_audit_verb(commands: Commands) -> None:
    command = commands.add_parser(
        "audit", help="is everything still whole and apart; pictures of the fans to look through"
    )
    command.add_argument("store", type=Path, metavar="STORE|ARCHIVE", help="an archive is looked into and nothing kept")
    command.add_argument(
        "--pictures", type=Path, metavar="OUT", help="contact sheets of the fans, as PNG in this folder"
    )
    command.add_argument("--run", type=Path, action="append", default=[], help="check the splits of this run; repeat")
    command.add_argument("--quick", action="store_true", help="sizes and dates only; contents are not hashed")
    command.add_argument("--workers", type=count, help="processes; default: one a core")
    command.set_defaults(run_command=_audit)


def _add_import_commands(commands: Commands) -> None:
    imports = commands.add_parser("import", help="convert a published image set to an archive")
    sets = imports.add_subparsers(required=True, metavar="SET")
    for name, importer in IMPORTERS.items():
        command = sets.add_parser(name, help=importer.description)
        command.add_argument("source", type=Path, metavar="SOURCE", help="the unpacked set; it is only read")
        command.add_argument("archive", type=Path, metavar="ARCHIVE", help="a new folder for the archive")
        command.add_argument(
            "--map", action="append", default=[], metavar="LABEL=PLANE", help="plane for a label of the set; repeat"
        )
        command.set_defaults(run_command=_import, importer=importer)


def _phantom(options: argparse.Namespace) -> None:
    from usvs.phantom import make_phantom, save_phantom_pictures

    summary = make_phantom(options.out, options.patients, options.seed, chosen_settings(options, PhantomSettings()))
    logger.info(f"phantom: {summary}")
    if options.pictures is not None:
        save_phantom_pictures(options.out, options.pictures, options.real)


def _index(options: argparse.Namespace) -> None:
    from usvs.store.catalogue import index_archive

    class IndexSettings(Settings):
        clips: ClipSettings = ClipSettings()
        voice: VoiceActivitySettings = VoiceActivitySettings()
        gaze: GazeSettings = GazeSettings()

    settings = chosen_settings(options, IndexSettings())
    clips, voice, gaze = settings.clips, settings.voice, settings.gaze
    logger.info(str(index_archive(options.archive, options.store, clips, voice, options.workers, gaze)))


def _prepare(options: argparse.Namespace) -> None:
    from usvs.store.dask_cluster import dask_cluster
    from usvs.store.prepare import prepare_store

    settings = chosen_settings(options, prepare_profile(chosen_profile(options)))
    with dask_cluster(options.dask) if options.dask else nullcontext() as cluster:
        logger.info(str(prepare_store(options.store, settings, options.workers, cluster)))


def _audit(options: argparse.Namespace) -> None:
    from usvs.store.audit import Finding, audit_store
    from usvs.store.audit_archive import audit_archive
    from usvs.store.contact_sheet import save_contact_sheets
    from usvs.store.keys import KEY_FILE
    from usvs.tasks.audit_runs import audit_run

    findings: list[Finding] = []
    if (options.store / KEY_FILE).exists():
        summary = audit_store(options.store, contents=not options.quick, workers=options.workers)
        pages = save_contact_sheets(options.store, options.pictures, options.workers) if options.pictures else ()
        findings += summary.findings
        logger.info(summary.headline)
    else:
        found, pages = audit_archive(options.store, options.pictures, options.workers)
        findings += found
    findings += [finding for run in options.run for finding in audit_run(run)]
    for finding in findings:
        print(finding)
    if pages:
        logger.info(f"pictures: {len(pages)} pages in {options.pictures}")
    if findings:
        raise DataError(f"audit: {len(findings)} findings")


def _import(options: argparse.Namespace) -> None:
    import_set = options.importer.load()
    logger.info(str(import_set(options.source, options.archive, parse_label_map(options.map))))
