"""Commands of the downstream tasks: finetune, predict."""

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

from usvs.cli.log_handler import print_result
from usvs.cli.options import Commands, Parser, add_command, chosen_profile, chosen_settings, labelled_patients
from usvs.errors import DataError
from usvs.tasks.classification.settings import classification_profile
from usvs.tasks.init_names import INIT_HELP
from usvs.tasks.saliency.settings import saliency_profile

logger = logging.getLogger(__name__)

PROFILES = {"planes": classification_profile, "gaze": saliency_profile}


def add_task_commands(commands: Commands) -> None:
    """Add them to the command."""
    finetune = commands.add_parser("finetune", help="fine-tune encoders to a task and compare them over patient folds")
    tasks = finetune.add_subparsers(required=True, metavar="TASK")
    for name, title in (("planes", "standard-plane detection"), ("gaze", "gaze-saliency prediction")):
        example = f"usvs finetune {name} STORE RUN --profile quick --init random --init PRETRAINED --patients held-out"
        command = add_command(
            tasks, name, partial(_finetune, name), f"fine-tune to {title}, cross-validated over patients", example
        )
        _add_finetune_options(command)

    predict = commands.add_parser("predict", help="apply a trained model to images")
    tasks = predict.add_subparsers(required=True, metavar="TASK")
    command = add_command(tasks, "planes", _predict_planes)
    command.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="PNG, JPEG, BMP or TIFF of any size, or videos"
    )
    command.add_argument(
        "--model",
        required=True,
        metavar="sononet:FILE|RUN",
        help="weights of SonoNet, or a run of 'usvs finetune planes' (its best init), one init or one fold of it",
    )
    command.add_argument(
        "--box", metavar="LEFT,TOP,RIGHT,BOTTOM", help="image region in pixels; default: the sector is detected"
    )


def _add_finetune_options(command: Parser) -> None:
    command.add_path("store", "STORE", "a prepared store")
    command.add_path("run", "RUN", "a new folder for results, models and plots")
    command.add_repeatable(
        "--init",
        "INIT",
        f"initial encoder; repeat to compare: {INIT_HELP} (default: random)",
    )
    command.add_count("--labelled-patients", "training patients per fold (default: all)")
    command.add_patients()
    command.add_switch("--allow-overlap", "also test on patients that an init was pretrained on")
    command.add_init_stores()
    command.add_choice(
        "--group-by",
        ["patient", "scan"],
        "scan: count each scan as its own patient (default: patient)",
        default="patient",
    )
    command.add_argument("--seed", type=count_from_zero, metavar="N", help="of folds, weights and augmentation")
    command.add_switch("--resume", "continue the interrupted fine-tuning in RUN")
    command.add_settings(profile=True)


def count_from_zero(text: str) -> int:
    """Read a seed."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected an integer of at least 0, got '{text}'")
    return int(text)


def _finetune(task: str, options: argparse.Namespace) -> None:
    from usvs.report.runs import save_gaze_figure, save_planes_figures
    from usvs.tasks.finetune import finetune
    from usvs.training.distributed import rank_of_environment

    settings = chosen_settings(options, PROFILES[task](chosen_profile(options)), labelled_patients(options))
    result = finetune(
        task,
        options.store,
        options.run,
        settings,
        inits=options.init or ["random"],
        patients=options.patients,
        allow_overlap=options.allow_overlap,
        init_stores=options.init_store,
        group_by=options.group_by,
        resume=options.resume,
    )
    if rank_of_environment() == 0:
        print_result(result)
        (save_planes_figures if task == "planes" else save_gaze_figure)(options.run)
        logger.info(f"results, models and plots: '{options.run}'")


def _predict_planes(options: argparse.Namespace) -> None:
    """Predict the standard plane of images: file, plane and confidence, tab-separated.

    Example:
        usvs predict planes screen.png --model RUN
    """
    from usvs.inference.predict import predict
    from usvs.media.images import parse_box

    box = None if options.box is None else parse_box(options.box)
    predictions = predict(options.images, options.model, box=box)
    for prediction in predictions:
        print_result(prediction)
    failed = {prediction.file for prediction in predictions if prediction.error is not None}
    if failed:
        sys.stdout.flush()
        raise DataError(f"{len(failed)} of {len(options.images)} files could not be read: see their lines above")
