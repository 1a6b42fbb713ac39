"""Commands for archives and stores: phantom, narrate, index, prepare, audit, import."""

import argparse
import logging
from contextlib import nullcontext

from usvs.archive.importers import IMPORTERS, parse_label_map
from usvs.cli.log_handler import print_result, show, show_preview, show_summary
from usvs.cli.options import Commands, add_command, chosen_profile, chosen_settings
from usvs.errors import ConfigError, DataError
from usvs.narration.settings import NarrateSettings
from usvs.phantom.settings import PhantomSettings
from usvs.store.settings import IndexSettings, prepare_profile
from usvs.utils.text import log_lines, quantity

logger: logging.Logger = logging.getLogger(__name__)


def add_archive_commands(commands: Commands) -> None:
    """Add these commands to the command line."""
    _add_phantom(commands)
    _add_narrate(commands)
    _add_index(commands)
    _add_prepare(commands)
    _add_audit(commands)
    _add_import(commands)


def _add_phantom(commands: Commands) -> None:
    command = add_command(commands, "phantom", _run_phantom)
    command.add_path(
        "out", "ARCHIVE", "a new folder; the ground truth is written to ARCHIVE.ground_truth", "output_folder"
    )
    command.add_count("--patients", "number of patients; default: 20", default=20)
    command.add_seed("the same seed gives the same archive; default: 0", default=0)
    command.add_path("--pictures", "OUT", "also draw planes and narration into this folder", "output_folder")
    command.add_path("--real", "IMAGES", "folder of real frames (.png) to draw beside them, with --pictures", "folder")
    command.add_workers()
    command.add_json()
    command.add_settings()


NARRATE_OPTIONS = {
    "scans": ("N", "join clips of all patients into this many scans; default: one scan per patient"),
    "clip_seconds": ("S", "each clip is played to and fro for about this long; default: 6"),
    "scan_seconds": ("S", "duration of a scan; default: 120 with --scans, otherwise each clip of the patient once"),
    "on_topic_fraction": ("F", "fraction of the remarks that are about what is shown; default: two thirds"),
    "silent_fraction": ("F", "fraction of the clips that are not commented; default: 0.05"),
    "voices": ("N", "number of voices, which all speak in every scan; default: 8"),
}


def _add_narrate(commands: Commands) -> None:
    command = add_command(commands, "narrate", _run_narrate)
    command.add_path("videos", "VIDEOS", "a folder of silent videos; never written to", "folder")
    command.add_path(
        "out", "ARCHIVE", "a new folder; the ground truth is written to ARCHIVE.ground_truth", "output_folder"
    )
    command.add_path("--labels", "CSV", "a table with a column 'file' and one of labels", "file", required=True)
    command.add_path("--lexicon", "TOML", "terms of each label: see examples/lexicons", "file", required=True)
    command.add_argument("--label-column", default="label", metavar="NAME", help="column of labels; default: label")
    command.add_argument(
        "--patient-column", metavar="NAME", help="column of patients or sources; default: patient, if there is one"
    )
    command.add_argument(
        "--exam-column", metavar="NAME", help="column of kinds of examination: a scan of --scans is of one kind"
    )
    command.add_choice("--part", ["train", "test"], "only videos of these patients, divided by class; default: all")
    for name, (metavar, help_text) in NARRATE_OPTIONS.items():
        command.add_argument(f"--{name.removesuffix('_fraction').replace('_', '-')}", metavar=metavar, help=help_text)
    command.add_seed("the same seed gives the same archive; default: 0", default=0)
    command.add_switch("--write-labels", "also write what is shown to <scan>.labels.csv in the archive")
    command.add_workers()
    command.add_json()
    command.add_settings()


def _add_index(commands: Commands) -> None:
    command = add_command(commands, "index", _run_index)
    command.add_path("archive", "ARCHIVE", "a folder of scans; never written to", "folder")
    command.add_path("store", "STORE", "a private folder for everything that is derived", "output_folder")
    command.add_path(
        "--labels", "CSV", "table of labels; default: labels.csv in ARCHIVE, or ARCHIVE.csv beside it", "file"
    )
    command.add_path("--classes", "CSV", "order and spelling of classes; default: classes.csv in ARCHIVE", "file")
    command.add_switch("--moved", "ARCHIVE is the archive of STORE in another place, even if files differ")
    command.add_workers()
    command.add_dry_run()
    command.add_json()
    command.add_settings()


def _add_prepare(commands: Commands) -> None:
    command = add_command(commands, "prepare", _run_prepare)
    command.add_store("a folder made by 'usvs index'")
    command.add_switch("--quick", "compare prepared frames and speech by their sizes only, do not hash them")
    command.add_workers()
    command.add_argument("--dask", metavar="ADDRESS", help="work on the Dask cluster of the scheduler at this address")
    command.add_dry_run()
    command.add_json()
    command.add_settings(profile=True)


def _add_audit(commands: Commands) -> None:
    command = add_command(commands, "audit", _run_audit)
    command.add_path("store", "STORE|ARCHIVE", "a store, or an archive, which is inspected without a store", "folder")
    command.add_path("--pictures", "OUT", "draw contact sheets into this folder", "output_folder")
    command.add_paths("--run", "RUN", "check the splits of this run; repeatable", "folder")
    command.add_switch("--quick", "compare sizes and times only, do not hash contents")
    command.add_workers()
    command.add_json()


def _add_import(commands: Commands) -> None:
    imports = commands.add_parser("import", help="convert a published image set to an archive")
    sets = imports.add_subparsers(required=True, metavar="SET")
    for name, importer in IMPORTERS.items():
        command = add_command(
            sets, name, _run_import, importer.description, f"usvs import {name} SOURCE ARCHIVE --map LABEL=PLANE"
        )
        command.add_path("source", "SOURCE", "the unpacked image set; never written to", "folder")
        command.add_path("archive", "ARCHIVE", "a new folder for the archive", "output_folder")
        command.add_json()
        command.add_repeatable(
            "--map", "LABEL=PLANE", "use another plane for a label, or none (LABEL=) to leave it out; repeatable"
        )
        command.set_defaults(importer=importer)


def _run_phantom(options: argparse.Namespace) -> None:
    """Make a synthetic archive of narrated scans with known ground truth.

    Example:
        usvs phantom ARCHIVE --patients 8 --seed 1 --pictures PICTURES
    """
    from usvs.phantom import make_phantom, save_phantom_pictures

    settings = chosen_settings(options, PhantomSettings())
    if options.real is not None and options.pictures is None:
        raise ConfigError("--real: expected --pictures as well, the folder that real frames are drawn into")
    summary = make_phantom(
        options.out, patients=options.patients, seed=options.seed, settings=settings, workers=options.workers
    )
    show_summary(options, summary)
    if options.pictures is not None:
        for file in save_phantom_pictures(options.out, options.pictures, options.real):
            logger.info(f"picture: {file}")


def _run_narrate(options: argparse.Namespace) -> None:
    """Talk over silent labelled videos: make an archive of narrated scans with known ground truth.

    Example:
        usvs narrate VIDEOS ARCHIVE --labels labels.csv --lexicon words.toml --label-column point
    """
    from usvs.narration import TableColumns, narrate_videos

    given = {name: getattr(options, name.removesuffix("_fraction")) for name in NARRATE_OPTIONS}
    first = [f"{name}={value}" for name, value in given.items() if value is not None]
    summary = narrate_videos(
        options.videos,
        options.out,
        labels=options.labels,
        lexicon=options.lexicon,
        columns=TableColumns(options.label_column, options.patient_column, options.exam_column),
        part=options.part,
        seed=options.seed,
        write_labels=options.write_labels,
        settings=chosen_settings(options, NarrateSettings(), first),
        workers=options.workers,
    )
    show_summary(options, summary)


def _run_index(options: argparse.Namespace) -> None:
    """Find the scans of an archive and what each one has: sound, gaze, labels, patient.

    Example:
        usvs index ARCHIVE STORE --set clips.clip_seconds=2
        usvs index ARCHIVE STORE --dry-run
    """
    from usvs.store.indexing import index_archive
    from usvs.store.preview import preview_index

    chosen = chosen_settings(options, IndexSettings())
    settings = dict(chosen)
    if options.dry_run:
        files = {"label_file": options.labels, "class_file": options.classes}
        show_preview(
            options,
            preview_index(
                options.archive, options.store, chosen, **files, moved=options.moved, workers=options.workers
            ),
        )
        return
    summary = index_archive(
        options.archive,
        options.store,
        label_file=options.labels,
        class_file=options.classes,
        workers=options.workers,
        moved=options.moved,
        **settings,
    )
    show_summary(options, summary)
    if summary.unused_tables:
        raise DataError(
            f"index: {quantity(len(summary.unused_tables), 'table')} of gaze or labels not used, see the lines "
            "'NOT USED'; their scans are in the catalogue without them: correct the tables, then index again"
        )


def _run_prepare(options: argparse.Namespace) -> None:
    """Write frames, speech, gaze and labels of each scan in a form that is fast to read.

    Example:
        usvs prepare STORE --profile quick
        usvs prepare STORE --profile quick --dry-run
    """
    from usvs.store.dask_cluster import dask_cluster
    from usvs.store.prepare import prepare_store
    from usvs.store.preview import preview_prepare

    settings = chosen_settings(options, prepare_profile(chosen_profile(options)))
    if options.dask is not None and options.workers is not None:
        raise ConfigError("--workers: expected it without --dask, whose cluster has workers of its own")
    if options.dry_run:
        show_preview(options, preview_prepare(options.store, settings, workers=options.workers))
        return
    with dask_cluster(options.dask) if options.dask else nullcontext() as cluster:
        summary = prepare_store(
            options.store, profile=settings, workers=options.workers, cluster=cluster, verify=not options.quick
        )
    show_summary(options, summary)
    if summary.failed:
        raise DataError(
            f"prepare: {summary.failed} of {quantity(summary.found, 'scan')} failed, see the lines 'failed'; training "
            "leaves them out: restore or remove these files, then run 'usvs index' and 'usvs prepare' again"
        )


def _run_audit(options: argparse.Namespace) -> None:
    """Verify store integrity and patient splits; draw contact sheets of the sectors.

    Example:
        usvs audit STORE --pictures PICTURES --run RUN
    """
    from usvs.store.audit import Finding, audit_store
    from usvs.store.audit_archive import audit_archive
    from usvs.store.contact_sheet import save_contact_sheets
    from usvs.store.keys import KEY_FILE
    from usvs.tasks.audit_runs import audit_run

    findings: list[Finding] = []
    if (options.store / KEY_FILE).exists():
        summary = audit_store(options.store, check_contents=not options.quick, workers=options.workers)
        pages = save_contact_sheets(options.store, options.pictures, options.workers) if options.pictures else ()
        findings += summary.findings
        log_lines(logger, summary)
    else:
        found, pages = audit_archive(options.store, options.pictures, options.workers)
        findings += found
    findings += [finding for run in options.run for finding in audit_run(run)]
    if options.json:
        show(options, findings)
    else:
        for finding in findings:
            print_result(finding)
    if pages:
        logger.info(
            f"audit: {quantity(len(pages), 'contact sheet')} in '{options.pictures}', the least certain sectors first;"
            " sectors.csv there has their files and crops: correct a wrong one in manifest.csv (columns scan, sector)"
        )
    if findings:
        raise DataError(f"audit: {quantity(len(findings), 'problem')} found")


def _run_import(options: argparse.Namespace) -> None:
    import_set = options.importer.load()
    show_summary(options, import_set(options.source, options.archive, parse_label_map(options.map)))
