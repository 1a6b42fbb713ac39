"""Commands that use the embeddings of a run: search, embed, probe-voice."""

import argparse
import logging

from usvs.cli.log_handler import show, show_summary
from usvs.cli.options import Commands, add_command, typed_path
from usvs.data.settings import TEMPORAL_STRIDE
from usvs.utils.text import quantity

logger: logging.Logger = logging.getLogger(__name__)


def add_search_commands(commands: Commands) -> None:
    """Add these commands to the command line."""
    _add_search(commands)
    _add_embed(commands)
    _add_probe_voice(commands)


def _add_search(commands: Commands) -> None:
    command = add_command(commands, "search", _run_search)
    command.add_store()
    command.add_path("run", "RUN", "a run of 'usvs pretrain', also on another store; the index is kept in it", "folder")
    query = command.add_mutually_exclusive_group(required=True)
    query.add_argument("--say", metavar="TEXT", help="search for what this text means, spoken by espeak-ng")
    for name, metavar, help_text in (
        ("--speech", "FILE", "search for what is said in this audio file"),
        ("--frame", "IMAGE", "search for frames that look like this one"),
    ):
        command.expect(query.add_argument(name, type=typed_path, metavar=metavar, help=help_text), "file")
    command.add_argument(
        "--voice", metavar="NAME", help="voice of --say, such as en-us+f2; default: the mean of sixteen voices"
    )
    command.add_count("--top", "number of moments; default: 10", default=10)
    command.add_count("--stride", f"every n-th frame is searched; default: {TEMPORAL_STRIDE}", TEMPORAL_STRIDE)
    command.add_switch("--exact", "of over 100,000 frames read all that can be among the best, not the likely ones")
    command.add_json()
    command.add_path("--pictures", "OUT", "draw the frames that were found into this folder", "output_folder")


def _add_embed(commands: Commands) -> None:
    command = add_command(commands, "embed", _run_embed)
    command.add_argument(
        "source",
        type=typed_path,
        nargs="+",
        metavar="STORE|VIDEO|IMAGE",
        help="prepared stores, videos, DICOM or images",
    )
    command.add_path("run", "RUN", "a run of 'usvs pretrain'", "folder")
    command.add_path("out", "OUT.parquet", "a row per frame: features, scan, patient, seconds, label", "output_file")
    command.add_json()
    command.add_switch("--shared", "write the embeddings that speech can be compared with, not the encoder's features")
    command.add_count("--stride", f"every n-th frame is used; default: {TEMPORAL_STRIDE}", TEMPORAL_STRIDE)


def _add_probe_voice(commands: Commands) -> None:
    command = add_command(commands, "probe-voice", _run_probe_voice)
    command.add_store("a prepared store with patients that the run has not seen")
    command.add_path("run", "RUN", "a run of 'usvs pretrain'", "folder")
    command.add_path("out", "OUT.json", "a file for all results", "output_file")
    command.add_json()
    command.add_path(
        "--classes",
        "CLASSES",
        "what is said for each class: a text file or a lexicon, as --zero-shot of 'usvs predict classify'",
        "path",
        required=True,
    )
    command.add_path(
        "--labels",
        "LABELS",
        "what is visible when: as of 'usvs diagnose'; default: the labels of frames that the store has",
    )
    command.add_path("--control", "RUN", "a run on shuffled speech, measured alike", "folder")
    command.add_argument(
        "--seen-voices",
        metavar="JSON|SEED:COUNT",
        help="voices that the run was trained on: archive.json of a ground truth, or those of a phantom archive",
    )
    command.add_path("--probe-store", "STORE", "labelled frames for the supervised probe; default: STORE's", "folder")
    command.add_path("--probe-labels", "LABELS", "labels of the frames of --probe-store; default: as of --labels")
    command.add_count("--voices", "number of unseen voices; default: 16", default=16)
    command.add_switch("--allow-overlap", "the run is of another store, whose patients cannot be compared")


def _run_search(options: argparse.Namespace) -> None:
    """Find the moments of all scans that fit a spoken text, a recording or a picture.

    Example:
        usvs search STORE RUN --say "four chamber view" --pictures OUT
        usvs search STORE RUN --speech question.wav --top 20 --json
        usvs search STORE RUN --frame picture.png
    """
    from usvs.inference.search import search
    from usvs.narration.spoken import VOICES, find_voice
    from usvs.report.search_sheet import save_search_sheet

    found = search(
        options.store,
        options.run,
        say=options.say,
        speech=options.speech,
        frame=options.frame,
        voices=VOICES if options.voice is None else (find_voice(options.voice),),
        top=options.top,
        stride=options.stride,
        exact=options.exact,
    )
    show(options, found)
    if options.pictures is not None:
        logger.info(f"search: pictures in '{save_search_sheet(found, options.store, options.pictures)}'")


def _run_embed(options: argparse.Namespace) -> None:
    """Write the features of frames, or their embeddings in the shared space, as a Parquet table.

    Example:
        usvs embed STORE RUN features.parquet
        usvs embed clip.mp4 picture.png RUN embeddings.parquet --shared
    """
    from usvs.inference.embed import embed_to_file

    count = embed_to_file(
        options.source,
        options.run,
        options.out,
        stride=options.stride,
        space="shared" if options.shared else "features",
    )
    show_summary(options, f"embed: {quantity(count, 'row')} in '{options.out}'", {"rows": count, "out": options.out})


def _run_probe_voice(options: argparse.Namespace) -> None:
    """Measure how well classes are named by voice alone, beside chance, shuffled speech and a supervised probe.

    Example:
        usvs probe-voice STORE RUN results.json --classes classes.txt --control SHUFFLED
    """
    from usvs.experiments.voice_probe import probe_voice

    result = probe_voice(
        options.store,
        options.run,
        options.out,
        classes=options.classes,
        labels=options.labels,
        control=options.control,
        seen_voices=options.seen_voices,
        probe_store=options.probe_store,
        probe_labels=options.probe_labels,
        voices=options.voices,
        allow_overlap=options.allow_overlap,
    )
    show(options, result)
