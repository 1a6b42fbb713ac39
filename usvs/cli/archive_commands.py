"""Verbs about the archive: phantom, index, prepare, audit, import."""

import argparse
from contextlib import nullcontext
from pathlib import Path

from usvs.cli.options import Verbs, add_settings_options, chosen_profile, chosen_settings, count
from usvs.config import ClipSettings, GazeSettings, PhantomSettings, Settings, VoiceActivitySettings, prepare_profile
from usvs.errors import ConfigError, DataError
from usvs.progress import say


def add_archive_verbs(verbs: Verbs) -> None:
    """Add them to the command."""
    verb = verbs.add_parser("phantom", help="make a synthetic archive of narrated scans with known truth")
    verb.add_argument("out", type=Path, metavar="OUT", help="a new folder; the truth goes to OUT.truth beside it")
    verb.add_argument("--patients", type=count, default=20)
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--pictures", type=Path, help="also draw planes and narration into this folder")
    verb.add_argument("--real", type=Path, help="real frames to show beside the phantom's in the pictures")
    add_settings_options(verb)
    verb.set_defaults(run_verb=_phantom)

    verb = verbs.add_parser("index", help="find the scans of an archive and what each one has")
    verb.add_argument("archive", type=Path, metavar="ARCHIVE", help="a folder of scans; never written to")
    verb.add_argument("store", type=Path, metavar="STORE", help="a private folder for all that is derived")
    verb.add_argument("--workers", type=count, help="processes; default: one a core")
    add_settings_options(verb)
    verb.set_defaults(run_verb=_index)

    verb = verbs.add_parser("prepare", help="write the fast store: frames, speech, gaze and labels of each scan")
    verb.add_argument("store", type=Path, metavar="STORE")
    verb.add_argument("--workers", type=count, help="processes; default: one a core")
    verb.add_argument("--dask", metavar="ADDRESS", help="work on a Dask cluster that sees both folders")
    add_settings_options(verb, profile=True)
    verb.set_defaults(run_verb=_prepare)
    _add_audit_verb(verbs)
    _add_import_verbs(verbs)


def _add_audit_verb(verbs: Verbs) -> None:
    verb = verbs.add_parser("audit", help="is everything still whole and apart; pictures of the fans to look through")
    verb.add_argument("store", type=Path, metavar="STORE|ARCHIVE", help="an archive is looked into and nothing kept")
    verb.add_argument("--pictures", type=Path, metavar="OUT", help="contact sheets of the fans, as PNG in this folder")
    verb.add_argument("--run", type=Path, action="append", default=[], help="check the splits of this run; repeat")
    verb.add_argument("--quick", action="store_true", help="sizes and dates only; contents are not hashed")
    verb.add_argument("--workers", type=count, help="processes; default: one a core")
    verb.set_defaults(run_verb=_audit)


def _add_import_verbs(verbs: Verbs) -> None:
    imports = verbs.add_parser("import", help="make an archive from a published image set")
    sets = imports.add_subparsers(required=True, metavar="SET")
    verb = sets.add_parser("fetal-planes", help="FETAL_PLANES_DB: a csv and a folder of images")
    verb.add_argument("source", type=Path, metavar="SOURCE", help="the unpacked set; never written to")
    verb.add_argument("archive", type=Path, metavar="ARCHIVE", help="a new folder for the archive")
    verb.add_argument("--map", action="append", default=[], metavar="LABEL=PLANE", help="another plane for a label")
    verb.set_defaults(run_verb=_import_fetal_planes)


def _phantom(options: argparse.Namespace) -> None:
    from usvs.phantom import make_phantom, save_phantom_pictures

    summary = make_phantom(options.out, options.patients, options.seed, chosen_settings(options, PhantomSettings()))
    say(f"phantom: {summary}")
    if options.pictures is not None:
        save_phantom_pictures(options.out, options.pictures, options.real)


def _index(options: argparse.Namespace) -> None:
    from usvs.archive.catalogue import index_archive

    class IndexSettings(Settings):
        clips: ClipSettings = ClipSettings()
        voice: VoiceActivitySettings = VoiceActivitySettings()
        gaze: GazeSettings = GazeSettings()

    settings = chosen_settings(options, IndexSettings())
    clips, voice, gaze = settings.clips, settings.voice, settings.gaze
    say(str(index_archive(options.archive, options.store, clips, voice, options.workers, gaze)))


def _prepare(options: argparse.Namespace) -> None:
    from usvs.archive.cluster import dask_cluster
    from usvs.archive.prepare import prepare_store

    settings = chosen_settings(options, prepare_profile(chosen_profile(options)))
    with dask_cluster(options.dask) if options.dask else nullcontext() as cluster:
        say(str(prepare_store(options.store, settings, options.workers, cluster)))


def _audit(options: argparse.Namespace) -> None:
    from usvs.archive.audit import Finding, audit_store
    from usvs.archive.audit_archive import audit_archive
    from usvs.archive.contact_sheet import save_contact_sheets
    from usvs.archive.keys import KEY_FILE
    from usvs.downstream.audit_runs import audit_run

    findings: list[Finding] = []
    if (options.store / KEY_FILE).exists():
        summary = audit_store(options.store, contents=not options.quick, workers=options.workers)
        pages = save_contact_sheets(options.store, options.pictures, options.workers) if options.pictures else ()
        findings += summary.findings
        say(summary.headline)
    else:
        found, pages = audit_archive(options.store, options.pictures, options.workers)
        findings += found
    findings += [finding for run in options.run for finding in audit_run(run)]
    for finding in findings:
        print(finding)
    if pages:
        say(f"pictures: {len(pages)} pages in {options.pictures}")
    if findings:
        raise DataError(f"audit: {len(findings)} findings")


def _import_fetal_planes(options: argparse.Namespace) -> None:
    from usvs.archive.fetal_planes import import_fetal_planes

    pairs = [text.partition("=") for text in options.map]
    if not all(equals for _, equals, _ in pairs):
        raise ConfigError("--map: wanted LABEL=PLANE, an empty plane to leave a label out")
    classes = {label.strip(): plane.strip() or None for label, _, plane in pairs}
    say(str(import_fetal_planes(options.source, options.archive, classes)))
