"""Verbs about one downstream task: finetune, predict."""

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
from usvs.config import gaze_profile, planes_profile
from usvs.progress import say


def add_downstream_verbs(verbs: Verbs) -> None:
    """Add them to the command."""
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


def _finetuning_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("store", type=Path, metavar="STORE")
    verb.add_argument("run", type=Path, metavar="OUT", help="a new folder for results, detectors and pictures")
    verb.add_argument(
        "--init",
        action="append",
        metavar="INIT",
        help="repeat to compare: random, RUN, video:RUN, usvs:RUN, imagenet:FILE|timm|torchvision, sononet:FILE",
    )
    verb.add_argument("--labelled-patients", type=count, help="how many to learn from in each fold")
    verb.add_argument("--patients", choices=["all", "held-out"], default="all", help="held-out: not pretrained on")
    verb.add_argument("--allow-overlap", action="store_true", help="test on patients that an init was pretrained on")
    verb.add_argument("--group-by", choices=["patient", "scan"], default="patient")
    verb.add_argument("--seed", type=int)
    add_settings_options(verb, profile=True)


def _finetune_planes(options: argparse.Namespace) -> None:
    from usvs.downstream.planes import compare_inits
    from usvs.report.plots import save_planes_pictures
    from usvs.training.distributed import rank_of_environment

    settings = chosen_settings(options, planes_profile(chosen_profile(options)), labelled_patients(options))
    table = compare_inits(options.store, options.run, settings, **compared_inits(options))
    if rank_of_environment() == 0:
        print(table)
        save_planes_pictures(options.run)
        say(f"results and pictures: {options.run}")


def _finetune_gaze(options: argparse.Namespace) -> None:
    from usvs.downstream.gaze import compare_gaze_inits
    from usvs.report.plots import save_gaze_picture
    from usvs.training.distributed import rank_of_environment

    settings = chosen_settings(options, gaze_profile(chosen_profile(options)), labelled_patients(options))
    table = compare_gaze_inits(options.store, options.run, settings, **compared_inits(options))
    if rank_of_environment() == 0:
        print(table)
        save_gaze_picture(options.run)
        say(f"results and picture: {options.run}")


def _predict_planes(options: argparse.Namespace) -> None:
    from usvs.downstream.detectors import predict_planes
    from usvs.downstream.images import parse_box

    box = None if options.box is None else parse_box(options.box)
    for prediction in predict_planes(options.images, options.model, box):
        print(prediction)
