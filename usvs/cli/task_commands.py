"""Commands about one downstream task: finetune, predict."""

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
from usvs.tasks.classification.settings import classification_profile
from usvs.tasks.saliency.settings import saliency_profile

logger = logging.getLogger(__name__)


def add_task_commands(commands: Commands) -> None:
    """Add them to the command."""
    finetune = commands.add_parser("finetune", help="fine-tune to a task with labels")
    tasks = finetune.add_subparsers(required=True, metavar="TASK")
    command = tasks.add_parser("planes", help="standard-plane detection, folds by patient")
    _finetuning_options(command)
    command.set_defaults(run_command=_finetune_planes)
    command = tasks.add_parser("gaze", help="gaze-saliency prediction, folds by patient")
    _finetuning_options(command)
    command.set_defaults(run_command=_finetune_gaze)

    predict = commands.add_parser("predict", help="use a trained network")
    tasks = predict.add_subparsers(required=True, metavar="TASK")
    command = tasks.add_parser("planes", help="name the standard plane on pictures: file, plane, confidence a line")
    command.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="PNG, JPEG, BMP or TIFF of any size")
    command.add_argument(
        "--model", required=True, metavar="sononet:FILE|RUN", help="SonoNet's weights or our detectors"
    )
    command.add_argument("--box", metavar="L,T,R,B", help="pixels to look at; default: the fan is looked for")
    command.set_defaults(run_command=_predict_planes)


def _finetuning_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("store", type=Path, metavar="STORE")
    command.add_argument("run", type=Path, metavar="OUT", help="a new folder for results, detectors and pictures")
    command.add_argument(
        "--init",
        action="append",
        metavar="INIT",
        help="repeat to compare: random, RUN, video:RUN, usvs:RUN, imagenet:FILE|timm|torchvision, sononet:FILE",
    )
    command.add_argument("--labelled-patients", type=count, help="how many to learn from in each fold")
    command.add_argument("--patients", choices=["all", "held-out"], default="all", help="held-out: not pretrained on")
    command.add_argument("--allow-overlap", action="store_true", help="test on patients that an init was pretrained on")
    command.add_argument("--group-by", choices=["patient", "scan"], default="patient")
    command.add_argument("--seed", type=int)
    add_settings_options(command, profile=True)


def _finetune_planes(options: argparse.Namespace) -> None:
    from usvs.report.runs import save_planes_figures
    from usvs.tasks.classification.compare import compare_inits
    from usvs.training.distributed import rank_of_environment

    settings = chosen_settings(options, classification_profile(chosen_profile(options)), labelled_patients(options))
    table = compare_inits(options.store, options.run, settings, **compared_inits(options))
    if rank_of_environment() == 0:
        print(table)
        save_planes_figures(options.run)
        logger.info(f"results and pictures: {options.run}")


def _finetune_gaze(options: argparse.Namespace) -> None:
    from usvs.report.runs import save_gaze_figure
    from usvs.tasks.saliency.compare import compare_gaze_inits
    from usvs.training.distributed import rank_of_environment

    settings = chosen_settings(options, saliency_profile(chosen_profile(options)), labelled_patients(options))
    table = compare_gaze_inits(options.store, options.run, settings, **compared_inits(options))
    if rank_of_environment() == 0:
        print(table)
        save_gaze_figure(options.run)
        logger.info(f"results and picture: {options.run}")


def _predict_planes(options: argparse.Namespace) -> None:
    from usvs.inference.predictors import predict_planes
    from usvs.media.images import parse_box

    box = None if options.box is None else parse_box(options.box)
    for prediction in predict_planes(options.images, options.model, box):
        print(prediction)
