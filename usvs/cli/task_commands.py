"""Commands of the downstream tasks: finetune, predict."""

import argparse
import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from usvs.cli.log_handler import print_result, show, show_preview
from usvs.cli.options import (
    Commands,
    Parser,
    add_command,
    chosen_inits,
    chosen_profile,
    chosen_settings,
    fraction,
    labelled_patients,
    typed_path,
)
from usvs.config import Profile, override_settings, read_table
from usvs.data.settings import TEMPORAL_STRIDE
from usvs.errors import ConfigError, DataError, ResourceError
from usvs.store.identity import is_store
from usvs.tasks.classification.settings import classification_profile
from usvs.tasks.saliency.settings import saliency_profile
from usvs.tasks.settings import FinetuneSettings
from usvs.utils.text import quantity

logger: logging.Logger = logging.getLogger(__name__)

PROFILES: dict[str, Callable[[Profile], FinetuneSettings]] = {
    "planes": classification_profile,
    "classify": classification_profile,
    "gaze": saliency_profile,
}
TITLES = {
    "planes": "standard-plane detection",
    "classify": "the classes of the store's own labels",
    "gaze": "gaze-saliency prediction",
}


def add_task_commands(commands: Commands) -> None:
    """Add them to the command."""
    finetune = commands.add_parser("finetune", help="fine-tune encoders to a task and compare them over patient folds")
    tasks = finetune.add_subparsers(required=True, metavar="TASK")
    for name, title in TITLES.items():
        column = " --labels view" if name == "classify" else ""
        patients = "--init random --init PRETRAINED --patients held-out"
        example = f"usvs finetune {name} STORE RUN{column} --profile quick {patients}"
        command = add_command(
            tasks, name, partial(_finetune, name), f"fine-tune to {title}, cross-validated over patients", example
        )
        _add_finetune_options(command)
        if name == "classify":
            command.add_labels()

    predict = commands.add_parser("predict", help="apply a trained model to images, videos and stores")
    tasks = predict.add_subparsers(required=True, metavar="TASK")
    for name, run in (("planes", _predict_planes), ("classify", _predict_classes)):
        _add_predict_options(add_command(tasks, name, run))


def _add_predict_options(command: Parser) -> None:
    command.add_argument(
        "images",
        type=typed_path,
        nargs="+",
        metavar="IMAGE|VIDEO|STORE",
        help="PNG, JPEG, BMP or TIFF of any size, videos, DICOM, or prepared stores",
    )
    model = command.add_argument(
        "--model",
        required=True,
        metavar="sononet:FILE|RUN",
        help="a run of 'usvs finetune' (its best init), one init or one fold of it, or weights of SonoNet; with"
        " --zero-shot a run of 'usvs pretrain'",
    )
    command.add_path(
        "--zero-shot",
        "CLASSES",
        "name frames by the nearest spoken class, without any label: a text file with a line 'name' or"
        " 'name: term, term' for each class, a lexicon (.toml), or a folder of recordings CLASS/*.wav",
        "path",
    )
    command.add_path(
        "--reference",
        "STORE",
        "with --zero-shot: frames that say which score is usual for each class; default: those that are predicted",
        "folder",
    )
    command.expect(model, "model")
    command.add_argument(
        "--box", metavar="LEFT,TOP,RIGHT,BOTTOM", help="image region in pixels; default: the sector is detected"
    )
    command.add_path(
        "--out", "FILE", "write a row per image or frame with all probabilities: .csv, .json or .parquet", "output_file"
    )
    command.add_path("--timelines", "FOLDER", "draw a timeline of each video or scan into this folder", "output_folder")
    command.add_argument(
        "--doubtful-below",
        type=fraction,
        default=0.5,
        metavar="P",
        help="rows of a smaller confidence are flagged as doubtful; default: 0.5",
    )
    command.add_count(
        "--stride", f"every n-th frame of a video is predicted; default: {TEMPORAL_STRIDE}", TEMPORAL_STRIDE
    )
    command.add_json()


def _add_finetune_options(command: Parser) -> None:
    command.add_store()
    command.add_path("run", "RUN", "a new folder for results, models and plots", "output_folder")
    command.add_inits()
    command.add_count("--labelled-patients", "training patients of each fold whose labels are used; default: all")
    command.add_patients()
    command.add_switch("--allow-overlap", "also test on patients that an init was pretrained on")
    command.add_init_stores()
    command.add_choice(
        "--group-by",
        ["patient", "scan"],
        "scan: count each scan as its own patient; default: patient",
        default="patient",
    )
    command.add_seed("of folds, weights and augmentation (setting run.seed)")
    command.add_switch("--resume", "continue the interrupted fine-tuning in RUN")
    command.add_jobs()
    command.add_dry_run()
    command.add_json()
    command.add_settings(profile=True)


def _finetune(task: str, options: argparse.Namespace) -> None:
    from usvs.report.html import report_after
    from usvs.report.runs import save_gaze_figure, save_planes_figures
    from usvs.tasks.finetune import finetune
    from usvs.tasks.preview import preview_finetuning
    from usvs.tasks.provenance import RESULTS_FILE
    from usvs.training.distributed import rank_of_environment

    settings = chosen_settings(options, PROFILES[task](chosen_profile(options)), labelled_patients(options))
    if column := getattr(options, "labels", None):
        settings = override_settings(settings, label_column=column)
    arguments: dict[str, Any] = {
        "inits": chosen_inits(options),
        "patients": options.patients,
        "allow_overlap": options.allow_overlap,
        "init_stores": options.init_store,
        "group_by": options.group_by,
        "resume": options.resume,
    }
    if options.dry_run:
        show_preview(options, preview_finetuning(task, options.store, options.run, settings, **arguments))
        return
    result = finetune(task, options.store, options.run, settings, **arguments, jobs=options.jobs)
    if rank_of_environment() == 0:
        show(options, result, read_table(options.run / RESULTS_FILE, "results") if options.json else None)
        (save_gaze_figure if task == "gaze" else save_planes_figures)(options.run)
        logger.info(f"results, models and plots: '{options.run}'")
        report_after(options.run, options.store)


def _predict_planes(options: argparse.Namespace) -> None:
    """Predict the standard plane of images: file, plane and confidence, tab-separated.

    Example:
        usvs predict planes screen.png --model RUN
    """
    _predict(options)


def _predict_classes(options: argparse.Namespace) -> None:
    """Predict the classes of images, videos and stores: file, class, confidence and time, tab-separated.

    Example:
        usvs predict classify clip.mp4 --model RUN --out predictions.csv --timelines PICTURES
        usvs predict classify STORE --model RUN --out predictions.parquet
        usvs predict classify STORE --model PRETRAINED --zero-shot classes.txt --out predictions.csv
    """
    _predict(options)


def _predict(options: argparse.Namespace) -> None:
    from usvs.inference.predict import predict_frames, summary_lines
    from usvs.inference.predict_by_voice import predict_by_voice
    from usvs.inference.prediction_files import check_prediction_file, prediction_rows, save_predictions
    from usvs.media.images import parse_box
    from usvs.report.timeline import save_timelines

    if options.out is not None:
        check_prediction_file(options.out)
    box = None if options.box is None else parse_box(options.box)
    if options.zero_shot is not None:
        found = predict_by_voice(
            options.images,
            options.model,
            options.zero_shot,
            box=box,
            stride=options.stride,
            reference=options.reference,
        )
    elif options.reference is not None:
        raise ConfigError("--reference: expected --zero-shot CLASSES with it, got none")
    else:
        found = predict_frames(options.images, options.model, box=box, stride=options.stride)
    found = found._replace(doubtful_below=options.doubtful_below)
    if options.json:
        show(options, found, prediction_rows(found))
    else:
        for prediction in found.predictions:
            if options.out is None or prediction.error is not None:
                print_result(found.line(prediction))
        for line in [] if options.out is None else summary_lines(found):
            print_result(line)
    if options.out is not None:
        try:
            file = save_predictions(found, options.out)
        except ResourceError:  # the work of hours is printed, not lost
            for prediction in [] if options.json else found.predictions:
                print_result(found.line(prediction))
            raise
        logger.info(f"predictions: {quantity(len(found.predictions), 'row')} in '{file}'")
    if any(map(is_store, options.images)):
        logger.info("predictions: scans of a store are named by keyed hashes; 'usvs ls STORE KEY' prints the path")
    if doubtful := found.doubtful:
        logger.info(
            f"predictions: {doubtful} of {quantity(len(found.predictions), 'row')} doubtful: look at them first"
        )
    if options.timelines is not None:
        pictures = save_timelines(found, options.timelines)
        logger.info(f"predictions: {quantity(len(pictures), 'timeline')} in '{options.timelines}'")
    failed = {prediction.file for prediction in found.predictions if prediction.error is not None}
    if failed:
        sys.stdout.flush()
        raise DataError(f"{len(failed)} of {len(options.images)} files could not be read: see their lines above")
