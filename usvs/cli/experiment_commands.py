"""Commands that run whole experiments: reproduce, curves, probe-video, evidence."""

import argparse
import logging
from pathlib import Path

from usvs.cli.options import (
    Commands,
    add_settings_options,
    chosen_profile,
    chosen_settings,
    compared_inits,
    count,
    labelled_patients,
)
from usvs.errors import ConfigError
from usvs.tasks.classification.settings import classification_profile

logger = logging.getLogger(__name__)


def add_experiment_commands(commands: Commands) -> None:
    """Add them to the command."""
    command = commands.add_parser(
        "reproduce", help="the paper's Tables 1, 2 and 3 and Figures 3 and 4, with our controls"
    )
    command.add_argument("archive_or_store", type=Path, metavar="ARCHIVE|STORE", help="an archive is prepared into OUT")
    command.add_argument("out", type=Path, metavar="OUT", help="all runs and cells are kept; the same command goes on")
    command.add_argument("--seeds", type=count, default=3)
    command.add_argument("--imagenet", metavar="FILE|timm|torchvision", help="weights for the row ImageNet Init.")
    command.add_argument("--sononet", metavar="FILE", help="weights for the row SonoNet")
    command.add_argument("--labelled-patients", type=count, help="how many to fine-tune on in each fold; default: all")
    command.add_argument("--allow-overlap", action="store_true", help="pretrain and test on the same patients")
    add_settings_options(command, profile=True)
    command.set_defaults(run_command=_reproduce)

    command = commands.add_parser(
        "curves", help="macro F1 against the share of labelled patients, fine-tuned and frozen"
    )
    command.add_argument("store", type=Path, metavar="STORE")
    command.add_argument("out", type=Path, metavar="OUT", help="cells are kept; the same command goes on")
    command.add_argument("--init", action="append", metavar="INIT", help="as of 'usvs finetune'; repeat to compare")
    command.add_argument("--shares", default="0.01,0.05,0.1,1", metavar="LIST", help="of each fold's training patients")
    command.add_argument("--seeds", type=count, default=3)
    command.add_argument("--patients", choices=["all", "held-out"], default="all", help="held-out: not pretrained on")
    command.add_argument("--allow-overlap", action="store_true", help="test on patients that an init was pretrained on")
    add_settings_options(command, profile=True)
    command.set_defaults(run_command=_curves)

    command = commands.add_parser("probe-video", help="order pretraining against a random init on labelled videos")
    command.add_argument("archive_or_store", type=Path, metavar="ARCHIVE|STORE", help="an archive is prepared into OUT")
    command.add_argument("out", type=Path, metavar="OUT", help="runs and cells are kept; the same command goes on")
    command.add_argument("--labels", type=Path, required=True, metavar="CSV", help="a line a video")
    command.add_argument("--classes", required=True, metavar="LIST", help="labels to tell apart, with commas between")
    command.add_argument(
        "--columns", default="file,label,source_id", metavar="FILE,LABEL,SOURCE", help="names in the csv"
    )
    command.add_argument("--repeats", type=count, default=5)
    add_settings_options(command)
    command.set_defaults(run_command=_probe_video)

    command = commands.add_parser(
        "evidence", help="does it learn? Ours, Shuffled and Rand over seeds and patient folds"
    )
    command.add_argument("store", type=Path, metavar="STORE")
    command.add_argument("out", type=Path, metavar="OUT", help="cells are kept; the same command goes on")
    command.add_argument("--seeds", type=count, default=3)
    command.set_defaults(run_command=_evidence)


def _reproduce(options: argparse.Namespace) -> None:
    from usvs.experiments.reproduce import reproduce, reproduce_profile
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
        logger.info(f"picture: {file}")


def _curves(options: argparse.Namespace) -> None:
    from usvs.experiments.curves import parse_shares, run_curves
    from usvs.report.reproduction import save_curves

    settings = chosen_settings(options, classification_profile(chosen_profile(options)))
    compared = {name: value for name, value in compared_inits(options).items() if name != "group_by"}
    shares = parse_shares(options.shares)
    print(run_curves(options.store, options.out, settings, shares=shares, seeds=range(options.seeds), **compared))
    logger.info(f"results and picture: {save_curves(options.out)}")


def _probe_video(options: argparse.Namespace) -> None:
    from usvs.experiments.reproduce import store_of
    from usvs.experiments.video_probe import VideoProbeSettings, probe_videos, read_video_labels

    settings = chosen_settings(options, VideoProbeSettings())
    columns = options.columns.split(",")
    if len(columns) != 3:
        raise ConfigError(f"--columns: expected three names, FILE,LABEL,SOURCE, got '{options.columns}'")
    store = store_of(options.archive_or_store, options.out, "quick")
    labels = read_video_labels(store, options.labels, options.classes.split(","), *columns)
    print(probe_videos(store, options.out / "run", labels, settings, options.repeats))
    logger.info(f"results: {options.out / 'run'}")


def _evidence(options: argparse.Namespace) -> None:
    from usvs.experiments.evidence import run_evidence
    from usvs.report.plots import save_evidence_picture

    print(run_evidence(options.store, options.out, seeds=range(options.seeds)))
    save_evidence_picture(options.out)
    logger.info(f"results and picture: {options.out}")
