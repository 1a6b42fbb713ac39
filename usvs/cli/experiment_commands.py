"""Commands for whole experiments: reproduce, curves, probe-video."""

import argparse
import logging

from usvs.cli.log_handler import show
from usvs.cli.options import (
    Commands,
    Parser,
    add_command,
    chosen_inits,
    chosen_profile,
    chosen_settings,
    labelled_patients,
)
from usvs.config import override_settings
from usvs.errors import ConfigError
from usvs.tasks.classification.settings import classification_profile

logger: logging.Logger = logging.getLogger(__name__)

OUT_HELP = "folder for all results; the same command resumes an interrupted one"
SEEDS_HELP = "number of seeds; more can be added later; default: 3"


def add_experiment_commands(commands: Commands) -> None:
    """Add the commands to the parser."""
    _add_reproduce(commands)
    _add_curves(commands)
    _add_probe_video(commands)


def _add_reproduce(commands: Commands) -> None:
    command = add_command(commands, "reproduce", _reproduce)
    _add_archive_or_store(command)
    command.add_choice(
        "--preset",
        ["paper", "evidence"],
        "paper: all rows of the tables; evidence: Ours against Shuffled and Rand, with few labels and with all;"
        " default: paper",
        default="paper",
    )
    command.add_count("--seeds", SEEDS_HELP, default=3)
    command.add_argument(
        "--rows",
        metavar="LIST",
        help="rows to run, such as random,video,joint,shuffled; others can be added later; default: all",
    )
    imagenet = command.add_argument(
        "--imagenet", metavar="FILE|timm|torchvision", help="weights for the row ImageNet Init.; default: not run"
    )
    command.expect(imagenet, "library_or_file")
    command.add_path("--sononet", "FILE", "weights for the row SonoNet; default: not run", "file")
    command.add_count("--labelled-patients", "number of patients with labels in each fold; default: all")
    command.add_labels("the standard planes, or the only column of a store without labels of them")
    command.add_switch("--allow-overlap", "pretrain and test on the same patients")
    command.add_jobs()
    command.add_settings(profile=True)


def _add_curves(commands: Commands) -> None:
    command = add_command(commands, "curves", _curves)
    command.add_store("a prepared store with labels")
    command.add_path("out", "OUT", OUT_HELP, "output_folder")
    command.add_inits()
    command.add_argument(
        "--fractions",
        default="0.01,0.05,0.1,1",
        metavar="LIST",
        help="fractions of each fold's training patients; default: 0.01,0.05,0.1,1",
    )
    command.add_count("--seeds", SEEDS_HELP, default=3)
    command.add_json()
    command.add_patients()
    command.add_switch("--allow-overlap", "test on patients that an init was pretrained on")
    command.add_init_stores()
    command.add_labels("the standard planes, or the only column of a store without labels of them")
    command.add_settings(profile=True)


def _add_probe_video(commands: Commands) -> None:
    command = add_command(commands, "probe-video", _probe_video)
    _add_archive_or_store(command)
    csv_help = "one line for each video: path in the archive or file name, label, source"
    command.add_path("--labels", "CSV", csv_help, "file", required=True)
    command.add_argument("--classes", required=True, metavar="LIST", help="the labels to use, separated by commas")
    command.add_argument(
        "--columns",
        default="file,label,source_id",
        metavar="FILE,LABEL,SOURCE",
        help="names of the csv's columns; default: file,label,source_id",
    )
    command.add_count("--repeats", "number of divisions into folds; default: 5", default=5)
    command.add_settings()


def _add_archive_or_store(command: Parser) -> None:
    command.add_path("archive_or_store", "ARCHIVE|STORE", "an archive is indexed and prepared into OUT/store", "folder")
    command.add_path("out", "OUT", OUT_HELP, "output_folder")
    command.add_json()


def _reproduce(options: argparse.Namespace) -> None:
    """Measure the paper's Tables 1, 2 and 3 and Figures 3 and 4, with controls.

    Example:
        usvs reproduce ARCHIVE OUT --profile quick --seeds 3
        usvs reproduce STORE OUT --profile quick --seeds 1 --rows random,video,joint,shuffled
        usvs reproduce STORE OUT --profile quick --preset evidence
    """
    from usvs.experiments.presets import reproduce_profile
    from usvs.experiments.reproduce import reproduce
    from usvs.report.experiments import save_reproduction_figures

    labelled = [f"{task}.{text}" for task in ("planes", "gaze") for text in labelled_patients(options)]
    settings = chosen_settings(options, reproduce_profile(chosen_profile(options), options.preset), labelled)
    if options.labels is not None:
        settings = override_settings(settings, **{"planes.label_column": options.labels})
    result = reproduce(
        options.archive_or_store,
        options.out,
        settings,
        seeds=range(options.seeds),
        imagenet=options.imagenet,
        sononet=options.sononet,
        allow_overlap=options.allow_overlap,
        rows=None if options.rows is None else [row.strip() for row in options.rows.split(",")],
        jobs=options.jobs,
    )
    show(options, result, result.results)
    for file in save_reproduction_figures(options.out):
        logger.info(f"figure: {file}")


def _curves(options: argparse.Namespace) -> None:
    """Measure macro F1 against the number of labelled patients, fine-tuned and frozen.

    Example:
        usvs curves STORE OUT --profile quick --init random --init RUN --patients held-out --fractions 0.05,0.1,0.25
    """
    from usvs.experiments.curves import parse_fractions, run_curves
    from usvs.report.experiments import save_curves_figure

    settings = chosen_settings(options, classification_profile(chosen_profile(options)))
    if options.labels is not None:
        settings = override_settings(settings, label_column=options.labels)
    fractions, inits = parse_fractions(options.fractions), chosen_inits(options)
    curves = run_curves(
        options.store,
        options.out,
        settings,
        inits=inits,
        fractions=fractions,
        seeds=range(options.seeds),
        patients=options.patients,
        allow_overlap=options.allow_overlap,
        init_stores=options.init_store,
    )
    show(options, curves, curves.results)
    logger.info(f"figure: {save_curves_figure(options.out)}")


def _probe_video(options: argparse.Namespace) -> None:
    """Compare frame-order pretraining with an untrained encoder on labelled videos.

    Example:
        usvs probe-video ARCHIVE OUT --labels labels.csv --classes covid,pneumonia,regular
    """
    from usvs.experiments.reproduce import prepared_store_folder
    from usvs.experiments.video_labels import read_video_labels
    from usvs.experiments.video_probe import VideoProbeSettings, probe_videos

    settings = chosen_settings(options, VideoProbeSettings())
    columns = options.columns.split(",")
    if len(columns) != 3:
        raise ConfigError(f"--columns: expected three names, FILE,LABEL,SOURCE, got '{options.columns}'")
    classes = [name.strip() for name in options.classes.split(",")]
    if len(classes) < 2 or len(set(classes)) < len(classes) or not all(classes):
        raise ConfigError(f"--classes: expected at least two different labels, got '{options.classes}'")
    store = prepared_store_folder(options.archive_or_store, options.out, "quick")
    labels = read_video_labels(store, options.labels, classes, *columns)
    result = probe_videos(store, options.out / "run", labels, settings, repeats=options.repeats)
    show(options, result, result.results)
    logger.info(f"results: {options.out / 'run'}")
