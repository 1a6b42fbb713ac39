"""Verbs that run whole experiments: reproduce, curves, probe-video, evidence."""

import argparse
from pathlib import Path

from usvs.cli.options import (
    Verbs,
    add_settings_options,
    chosen_profile,
    chosen_settings,
    compared_inits,
    count,
    labelled_patients,
)
from usvs.config import planes_profile
from usvs.errors import ConfigError
from usvs.progress import say


def add_table_verbs(verbs: Verbs) -> None:
    """Add them to the command."""
    verb = verbs.add_parser("reproduce", help="the paper's Tables 1, 2 and 3 and Figures 3 and 4, with our controls")
    verb.add_argument("archive_or_store", type=Path, metavar="ARCHIVE|STORE", help="an archive is prepared into OUT")
    verb.add_argument("out", type=Path, metavar="OUT", help="all runs and cells are kept; the same command goes on")
    verb.add_argument("--seeds", type=count, default=3)
    verb.add_argument("--imagenet", metavar="FILE|timm|torchvision", help="weights for the row ImageNet Init.")
    verb.add_argument("--sononet", metavar="FILE", help="weights for the row SonoNet")
    verb.add_argument("--labelled-patients", type=count, help="how many to fine-tune on in each fold; default: all")
    verb.add_argument("--allow-overlap", action="store_true", help="pretrain and test on the same patients")
    add_settings_options(verb, profile=True)
    verb.set_defaults(run_verb=_reproduce)

    verb = verbs.add_parser("curves", help="macro F1 against the share of labelled patients, fine-tuned and frozen")
    verb.add_argument("store", type=Path, metavar="STORE")
    verb.add_argument("out", type=Path, metavar="OUT", help="cells are kept; the same command goes on")
    verb.add_argument("--init", action="append", metavar="INIT", help="as of 'usvs finetune'; repeat to compare")
    verb.add_argument("--shares", default="0.01,0.05,0.1,1", metavar="LIST", help="of each fold's training patients")
    verb.add_argument("--seeds", type=count, default=3)
    verb.add_argument("--patients", choices=["all", "held-out"], default="all", help="held-out: not pretrained on")
    verb.add_argument("--allow-overlap", action="store_true", help="test on patients that an init was pretrained on")
    add_settings_options(verb, profile=True)
    verb.set_defaults(run_verb=_curves)

    verb = verbs.add_parser("probe-video", help="order pretraining against a random init on labelled videos")
    verb.add_argument("archive_or_store", type=Path, metavar="ARCHIVE|STORE", help="an archive is prepared into OUT")
    verb.add_argument("out", type=Path, metavar="OUT", help="runs and cells are kept; the same command goes on")
    verb.add_argument("--labels", type=Path, required=True, metavar="CSV", help="a line a video")
    verb.add_argument("--classes", required=True, metavar="LIST", help="labels to tell apart, with commas between")
    verb.add_argument("--columns", default="file,label,source_id", metavar="FILE,LABEL,SOURCE", help="names in the csv")
    verb.add_argument("--repeats", type=count, default=5)
    add_settings_options(verb)
    verb.set_defaults(run_verb=_probe_video)

    verb = verbs.add_parser("evidence", help="does it learn? Ours, Shuffled and Rand over seeds and patient folds")
    verb.add_argument("store", type=Path, metavar="STORE")
    verb.add_argument("out", type=Path, metavar="OUT", help="cells are kept; the same command goes on")
    verb.add_argument("--seeds", type=count, default=3)
    verb.set_defaults(run_verb=_evidence)


def _reproduce(options: argparse.Namespace) -> None:
    from usvs.downstream.reproduce import reproduce, reproduce_profile
    from usvs.report.reproduction import save_reproduction_figures

    labelled = [f"{task}.{text}" for task in ("planes", "gaze") for text in labelled_patients(options)]
    settings = chosen_settings(options, reproduce_profile(chosen_profile(options)), labelled)
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

    settings = chosen_settings(options, planes_profile(chosen_profile(options)))
    compared = {name: value for name, value in compared_inits(options).items() if name != "group_by"}
    shares = parse_shares(options.shares)
    print(run_curves(options.store, options.out, settings, shares=shares, seeds=range(options.seeds), **compared))
    say(f"results and picture: {save_curves(options.out)}")


def _probe_video(options: argparse.Namespace) -> None:
    from usvs.downstream.reproduce import store_of
    from usvs.downstream.video_probe import VideoProbeSettings, probe_videos, read_video_labels

    settings = chosen_settings(options, VideoProbeSettings())
    columns = options.columns.split(",")
    if len(columns) != 3:
        raise ConfigError(f"--columns: wanted three names, FILE,LABEL,SOURCE, got '{options.columns}'")
    store = store_of(options.archive_or_store, options.out, "quick")
    labels = read_video_labels(store, options.labels, options.classes.split(","), *columns)
    print(probe_videos(store, options.out / "run", labels, settings, options.repeats))
    say(f"results: {options.out / 'run'}")


def _evidence(options: argparse.Namespace) -> None:
    from usvs.downstream.evidence import run_evidence
    from usvs.report.plots import save_evidence_picture

    print(run_evidence(options.store, options.out, seeds=range(options.seeds)))
    save_evidence_picture(options.out)
    say(f"results and picture: {options.out}")
