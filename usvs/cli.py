"""The command `usvs`: one verb a step, from a folder of scans to a fine-tuned model."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar

from usvs import __version__
from usvs.config import (
    OBJECTIVES,
    ClipSettings,
    GazeSettings,
    PhantomSettings,
    Profile,
    Settings,
    VoiceActivitySettings,
    gaze_profile,
    load_settings,
    planes_profile,
    prepare_profile,
    pretrain_profile,
)
from usvs.errors import ConfigError, DataError, UsvsError
from usvs.progress import say

SettingsT = TypeVar("SettingsT", bound=Settings)
_Verbs: TypeAlias = "argparse._SubParsersAction[_Parser]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb and leave with its exit code; a `UsvsError` is one line, never a traceback."""
    options = _parser().parse_args(arguments)
    try:
        options.run_verb(options)
    except UsvsError as error:
        say(f"usvs: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("usvs: stopped by the keyboard")
        sys.exit(130)
    except PermissionError as error:
        say(f"usvs: no permission for '{error.filename}': choose a folder that you may write to")
        sys.exit(4)
    except OSError as error:
        say(f"usvs: {error.strerror or error}: '{error.filename}'")
        sys.exit(4)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"usvs: {message}\n(see '{self.prog} --help')\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="usvs", description="Learn from narrated ultrasound: video and speech, no labels.")
    parser.add_argument("--version", action="version", version=f"usvs {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser("phantom", help="make a synthetic archive of narrated scans with known truth")
    verb.add_argument("out", type=Path, metavar="OUT", help="a new folder; the truth goes to OUT.truth beside it")
    verb.add_argument("--patients", type=_count, default=20)
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--pictures", type=Path, help="also draw planes and narration into this folder")
    verb.add_argument("--real", type=Path, help="real frames to show beside the phantom's in the pictures")
    _settings_options(verb)
    verb.set_defaults(run_verb=_phantom)

    verb = verbs.add_parser("index", help="find the scans of an archive and what each one has")
    verb.add_argument("archive", type=Path, metavar="ARCHIVE", help="a folder of scans; never written to")
    verb.add_argument("store", type=Path, metavar="STORE", help="a private folder for all that is derived")
    verb.add_argument("--workers", type=_count, help="processes; default: one a core")
    _settings_options(verb)
    verb.set_defaults(run_verb=_index)

    verb = verbs.add_parser("prepare", help="write the fast store: frames, speech, gaze and labels of each scan")
    verb.add_argument("store", type=Path, metavar="STORE")
    verb.add_argument("--workers", type=_count, help="processes; default: one a core")
    verb.add_argument("--dask", metavar="ADDRESS", help="work on a Dask cluster that sees both folders")
    _settings_options(verb, profile=True)
    verb.set_defaults(run_verb=_prepare)

    _add_audit_verb(verbs)
    _add_import_verbs(verbs)

    verb = verbs.add_parser("pretrain", help="learn from video and speech without labels")
    verb.add_argument("store", type=Path, metavar="STORE")
    verb.add_argument("run", type=Path, metavar="RUN", help="a new folder for the run")
    verb.add_argument("--objective", choices=OBJECTIVES, default="ours", help="which row of the paper's tables")
    verb.add_argument("--loader", choices=["torch", "dali"], help="who decodes; both give the same samples")
    verb.add_argument("--seed", type=int)
    verb.add_argument("--resume", action="store_true", help="go on with the run that stands in RUN")
    _settings_options(verb, profile=True)
    verb.set_defaults(run_verb=_pretrain)

    _add_downstream_verbs(verbs)
    _add_table_verbs(verbs)
    _add_video_probe_verb(verbs)

    verb = verbs.add_parser("evidence", help="does it learn? Ours, Shuffled and Rand over seeds and patient folds")
    verb.add_argument("store", type=Path, metavar="STORE")
    verb.add_argument("out", type=Path, metavar="OUT", help="cells are kept; the same command goes on")
    verb.add_argument("--seeds", type=_count, default=3)
    verb.set_defaults(run_verb=_evidence)

    _add_bench_verbs(verbs)
    return parser


def _add_bench_verbs(verbs: _Verbs) -> None:
    bench = verbs.add_parser("bench", help="measure this machine")
    kinds = bench.add_subparsers(required=True, metavar="WHAT")
    verb = kinds.add_parser("step", help="where a pretraining step's time goes, and what feeding a device takes")
    verb.add_argument("store", type=Path, metavar="STORE")
    verb.add_argument("--steps", type=_count, default=5, help="how many are measured")
    verb.add_argument("--out", type=Path, metavar="FILE", help="also write everything as JSON")
    _settings_options(verb, profile=True)
    verb.set_defaults(run_verb=_bench_step)


def _add_audit_verb(verbs: _Verbs) -> None:
    verb = verbs.add_parser("audit", help="is everything still whole and apart; pictures of the fans to look through")
    verb.add_argument("store", type=Path, metavar="STORE|ARCHIVE", help="an archive is looked into and nothing kept")
    verb.add_argument("--pictures", type=Path, metavar="OUT", help="contact sheets of the fans, as PNG in this folder")
    verb.add_argument("--run", type=Path, action="append", default=[], help="check the splits of this run; repeat")
    verb.add_argument("--quick", action="store_true", help="sizes and dates only; contents are not hashed")
    verb.add_argument("--workers", type=_count, help="processes; default: one a core")
    verb.set_defaults(run_verb=_audit)


def _add_import_verbs(verbs: _Verbs) -> None:
    imports = verbs.add_parser("import", help="make an archive from a published image set")
    sets = imports.add_subparsers(required=True, metavar="SET")
    verb = sets.add_parser("fetal-planes", help="FETAL_PLANES_DB: a csv and a folder of images")
    verb.add_argument("source", type=Path, metavar="SOURCE", help="the unpacked set; never written to")
    verb.add_argument("archive", type=Path, metavar="ARCHIVE", help="a new folder for the archive")
    verb.add_argument("--map", action="append", default=[], metavar="LABEL=PLANE", help="another plane for a label")
    verb.set_defaults(run_verb=_import_fetal_planes)


def _add_downstream_verbs(verbs: _Verbs) -> None:
    finetune = verbs.add_parser("finetune", help="fine-tune to a task with labels")
    tasks = finetune.add_subparsers(required=True, metavar="TASK")
    verb = tasks.add_parser("planes", help="standard-plane detection, folds by patient")
    _finetuning_options(verb)
    verb.set_defaults(run_verb=_finetune_planes)
    verb = tasks.add_parser("gaze", help="gaze-saliency prediction, folds by patient")
    _finetuning_options(verb)
    verb.set_defaults(run_verb=_finetune_gaze)

    predict = verbs.add_parser("predict", help="use a trained network")
    tasks = predict.add_subparsers(required=True, metavar="TASK")
    verb = tasks.add_parser("planes", help="name the standard plane on pictures: file, plane, confidence a line")
    verb.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="PNG, JPEG, BMP or TIFF of any size")
    verb.add_argument("--model", required=True, metavar="sononet:FILE|RUN", help="SonoNet's weights or our detectors")
    verb.add_argument("--box", metavar="L,T,R,B", help="pixels to look at; default: the fan is looked for")
    verb.set_defaults(run_verb=_predict_planes)


def _add_table_verbs(verbs: _Verbs) -> None:
    verb = verbs.add_parser("reproduce", help="the paper's Tables 1, 2 and 3 and Figures 3 and 4, with our controls")
    verb.add_argument("archive_or_store", type=Path, metavar="ARCHIVE|STORE", help="an archive is prepared into OUT")
    verb.add_argument("out", type=Path, metavar="OUT", help="all runs and cells are kept; the same command goes on")
    verb.add_argument("--seeds", type=_count, default=3)
    verb.add_argument("--imagenet", metavar="FILE|timm|torchvision", help="weights for the row ImageNet Init.")
    verb.add_argument("--sononet", metavar="FILE", help="weights for the row SonoNet")
    verb.add_argument("--labelled-patients", type=_count, help="how many to fine-tune on in each fold; default: all")
    verb.add_argument("--allow-overlap", action="store_true", help="pretrain and test on the same patients")
    _settings_options(verb, profile=True)
    verb.set_defaults(run_verb=_reproduce)

    verb = verbs.add_parser("curves", help="macro F1 against the share of labelled patients, fine-tuned and frozen")
    verb.add_argument("store", type=Path, metavar="STORE")
    verb.add_argument("out", type=Path, metavar="OUT", help="cells are kept; the same command goes on")
    verb.add_argument("--init", action="append", metavar="INIT", help="as of 'usvs finetune'; repeat to compare")
    verb.add_argument("--shares", default="0.01,0.05,0.1,1", metavar="LIST", help="of each fold's training patients")
    verb.add_argument("--seeds", type=_count, default=3)
    verb.add_argument("--patients", choices=["all", "held-out"], default="all", help="held-out: not pretrained on")
    verb.add_argument("--allow-overlap", action="store_true", help="test on patients that an init was pretrained on")
    _settings_options(verb, profile=True)
    verb.set_defaults(run_verb=_curves)


def _add_video_probe_verb(verbs: _Verbs) -> None:
    verb = verbs.add_parser("probe-video", help="order pretraining against a random init on labelled videos")
    verb.add_argument("archive_or_store", type=Path, metavar="ARCHIVE|STORE", help="an archive is prepared into OUT")
    verb.add_argument("out", type=Path, metavar="OUT", help="runs and cells are kept; the same command goes on")
    verb.add_argument("--labels", type=Path, required=True, metavar="CSV", help="a line a video")
    verb.add_argument("--classes", required=True, metavar="LIST", help="labels to tell apart, with commas between")
    verb.add_argument("--columns", default="file,label,source_id", metavar="FILE,LABEL,SOURCE", help="names in the csv")
    verb.add_argument("--repeats", type=_count, default=5)
    _settings_options(verb)
    verb.set_defaults(run_verb=_probe_video)


def _finetuning_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("store", type=Path, metavar="STORE")
    verb.add_argument("run", type=Path, metavar="OUT", help="a new folder for results, detectors and pictures")
    verb.add_argument(
        "--init",
        action="append",
        metavar="INIT",
        help="repeat to compare: random, RUN, video:RUN, usvs:RUN, imagenet:FILE|timm|torchvision, sononet:FILE",
    )
    verb.add_argument("--labelled-patients", type=_count, help="how many to learn from in each fold")
    verb.add_argument("--patients", choices=["all", "held-out"], default="all", help="held-out: not pretrained on")
    verb.add_argument("--allow-overlap", action="store_true", help="test on patients that an init was pretrained on")
    verb.add_argument("--group-by", choices=["patient", "scan"], default="patient")
    verb.add_argument("--seed", type=int)
    _settings_options(verb, profile=True)


def _settings_options(verb: argparse.ArgumentParser, profile: bool = False) -> None:
    verb.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML or JSON")
    verb.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting, dotted")
    if profile:
        verb.add_argument("--profile", choices=["paper", "quick"], default="paper")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1, got '{text}'")
    return int(text)


def _settings(options: argparse.Namespace, base: SettingsT, first: Sequence[str] = ()) -> SettingsT:
    seed = getattr(options, "seed", None)
    last = [] if seed is None or "run" not in type(base).model_fields else [f"run.seed={seed}"]
    return load_settings(base, options.config, [*first, *options.set, *last])


def _profile(options: argparse.Namespace) -> Profile:
    return "quick" if options.profile == "quick" else "paper"


def _phantom(options: argparse.Namespace) -> None:
    from usvs.phantom import make_phantom, save_phantom_pictures

    summary = make_phantom(options.out, options.patients, options.seed, _settings(options, PhantomSettings()))
    say(f"phantom: {summary}")
    if options.pictures is not None:
        save_phantom_pictures(options.out, options.pictures, options.real)


def _index(options: argparse.Namespace) -> None:
    from usvs.archive.catalogue import index_archive

    class IndexSettings(Settings):
        clips: ClipSettings = ClipSettings()
        voice: VoiceActivitySettings = VoiceActivitySettings()
        gaze: GazeSettings = GazeSettings()

    settings = _settings(options, IndexSettings())
    clips, voice, gaze = settings.clips, settings.voice, settings.gaze
    say(str(index_archive(options.archive, options.store, clips, voice, options.workers, gaze)))


def _prepare(options: argparse.Namespace) -> None:
    from usvs.archive.cluster import dask_cluster
    from usvs.archive.prepare import prepare_store

    settings = _settings(options, prepare_profile(_profile(options)))
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


def _pretrain(options: argparse.Namespace) -> None:
    from usvs.report.plots import save_loss_curves
    from usvs.training.distributed import rank_of_environment
    from usvs.training.pretrain import pretrain

    chosen = [] if options.loader is None else [f"run.loader={options.loader}"]
    settings = _settings(options, pretrain_profile(_profile(options)), [*OBJECTIVES[options.objective], *chosen])
    result = pretrain(options.store, options.run, settings, resume=options.resume)
    if rank_of_environment() == 0:
        save_loss_curves(options.run)
        say(str(result))


def _finetune_planes(options: argparse.Namespace) -> None:
    from usvs.downstream.planes import compare_inits
    from usvs.report.plots import save_planes_pictures

    settings = _settings(options, planes_profile(_profile(options)), _labelled(options))
    print(compare_inits(options.store, options.run, settings, **_compared(options)))
    save_planes_pictures(options.run)
    say(f"results and pictures: {options.run}")


def _finetune_gaze(options: argparse.Namespace) -> None:
    from usvs.downstream.gaze import compare_gaze_inits
    from usvs.report.plots import save_gaze_picture

    settings = _settings(options, gaze_profile(_profile(options)), _labelled(options))
    print(compare_gaze_inits(options.store, options.run, settings, **_compared(options)))
    save_gaze_picture(options.run)
    say(f"results and picture: {options.run}")


def _reproduce(options: argparse.Namespace) -> None:
    from usvs.downstream.reproduce import reproduce, reproduce_profile
    from usvs.report.reproduction import save_reproduction_figures

    labelled = [f"{task}.{text}" for task in ("planes", "gaze") for text in _labelled(options)]
    settings = _settings(options, reproduce_profile(_profile(options)), labelled)
    print(
        reproduce(
            options.archive_or_store,
            options.out,
            settings,
            range(options.seeds),
            options.imagenet,
            options.sononet,
            options.allow_overlap,
        )
    )
    for file in save_reproduction_figures(options.out):
        say(f"picture: {file}")


def _curves(options: argparse.Namespace) -> None:
    from usvs.downstream.curves import parse_shares, run_curves
    from usvs.report.reproduction import save_curves

    settings = _settings(options, planes_profile(_profile(options)))
    compared = {name: value for name, value in _compared(options).items() if name != "group_by"}
    shares = parse_shares(options.shares)
    print(run_curves(options.store, options.out, settings, shares=shares, seeds=range(options.seeds), **compared))
    say(f"results and picture: {save_curves(options.out)}")


def _probe_video(options: argparse.Namespace) -> None:
    from usvs.downstream.reproduce import store_of
    from usvs.downstream.video_probe import VideoProbeSettings, probe_videos, read_video_labels

    settings = _settings(options, VideoProbeSettings())
    columns = options.columns.split(",")
    if len(columns) != 3:
        raise ConfigError(f"--columns: wanted three names, FILE,LABEL,SOURCE, got '{options.columns}'")
    store = store_of(options.archive_or_store, options.out, "quick")
    labels = read_video_labels(store, options.labels, options.classes.split(","), *columns)
    print(probe_videos(store, options.out / "run", labels, settings, options.repeats))
    say(f"results: {options.out / 'run'}")


def _labelled(options: argparse.Namespace) -> list[str]:
    return [] if options.labelled_patients is None else [f"labelled_patients={options.labelled_patients}"]


def _compared(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "inits": options.init or ["random"],
        "held_out_only": options.patients == "held-out",
        "allow_overlap": options.allow_overlap,
        "group_by": getattr(options, "group_by", "patient"),
    }


def _predict_planes(options: argparse.Namespace) -> None:
    from usvs.downstream.detectors import predict_planes
    from usvs.downstream.images import parse_box

    box = None if options.box is None else parse_box(options.box)
    for prediction in predict_planes(options.images, options.model, box):
        print(prediction)


def _bench_step(options: argparse.Namespace) -> None:
    import json

    from usvs.training.step_profile import profile_step

    profile = profile_step(options.store, _settings(options, pretrain_profile(_profile(options))), options.steps)
    print(profile)
    if options.out is not None:
        options.out.write_text(json.dumps(profile.as_json(), indent=1) + "\n", encoding="utf-8")


def _evidence(options: argparse.Namespace) -> None:
    from usvs.downstream.evidence import run_evidence
    from usvs.report.plots import save_evidence_picture

    print(run_evidence(options.store, options.out, seeds=range(options.seeds)))
    save_evidence_picture(options.out)
    say(f"results and picture: {options.out}")
