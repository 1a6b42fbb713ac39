"""Commands for pretraining: pretrain, diagnose, bench."""

import argparse
import logging
from pathlib import Path

from usvs.cli.log_handler import print_result
from usvs.cli.options import Commands, add_command, chosen_profile, chosen_settings, count
from usvs.tasks.init_names import INIT_HELP
from usvs.tasks.pretraining.settings import OBJECTIVES, pretrain_profile

logger = logging.getLogger(__name__)


def add_pretrain_commands(commands: Commands) -> None:
    """Add the commands to the parser."""
    command = add_command(commands, "pretrain", _run_pretrain)
    command.add_path("store", "STORE", "a store that 'usvs prepare' has prepared")
    command.add_path("run", "RUN", "a new folder for the run")
    command.add_choice(
        "--objective",
        OBJECTIVES,
        "the loss: a row of the paper's tables, or a control; default: joint",
        default="joint",
    )
    command.add_argument(
        "--init",
        metavar="INIT",
        help=f"initial weights of the video encoder: {INIT_HELP}; default: random",
    )
    command.add_init_stores()
    command.add_switch("--allow-overlap", "use an init that was pretrained on a store that is not at hand")
    command.add_argument(
        "--encoder", metavar="NAME", help="a video encoder of usvs.list_encoders(); default: setting model.video"
    )
    command.add_choice("--loader", ["torch", "dali"], "data-loading backend; both give the same samples")
    command.add_argument("--seed", type=int, help="of the weights and the sampling (setting run.seed)")
    command.add_switch("--resume", "resume the run in RUN, or start it if there is none")
    command.add_settings(profile=True)

    command = add_command(commands, "diagnose", _run_diagnose)
    command.add_path("store", "STORE", "a store that 'usvs prepare' has prepared")
    command.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a run of 'usvs pretrain' on this store")
    command.add_path(
        "--labels",
        "LABELS",
        "what is visible when: a csv file with columns file, start_seconds, end_seconds, label; a folder with a file"
        " PATH.intervals.csv for each scan; or 'store': the labels of frames in the store",
    )
    command.add_count("--updates", "updates of each supervised network, with --labels; default: 300", default=300)
    command.add_switch("--json", "print all figures as JSON")
    command.add_settings(profile=True)

    bench = commands.add_parser("bench", help="measure the speed of this machine")
    kinds = bench.add_subparsers(required=True, metavar="WHAT")
    command = add_command(kinds, "step", _run_bench_step)
    command.add_path("store", "STORE", "a store that 'usvs prepare' has prepared")
    command.add_argument("--steps", type=count, default=5, help="number of measured steps; default: 5")
    command.add_path("--out", "FILE", "also write all values as JSON")
    command.add_settings(profile=True)


def _run_pretrain(options: argparse.Namespace) -> None:
    """Pretrain an encoder on video and speech, without labels.

    Example:
        usvs pretrain STORE RUN --profile quick --set optimiser.epochs=20
        usvs pretrain STORE RUN --profile quick --resume
        usvs pretrain STORE RUN2 --profile quick --init RUN
    """
    from usvs.report.callback import ReportCallback
    from usvs.report.html import report_after
    from usvs.report.runs import save_loss_curves
    from usvs.tasks.pretraining.pretrain import pretrain
    from usvs.training.distributed import rank_of_environment

    loader = [] if options.loader is None else [f"run.loader={options.loader}"]
    base = pretrain_profile(chosen_profile(options))
    settings = chosen_settings(options, base, [*OBJECTIVES[options.objective], *loader])
    result = pretrain(
        options.store,
        options.run,
        settings,
        encoder=options.encoder,
        init=options.init,
        init_stores=options.init_store,
        allow_overlap=options.allow_overlap,
        callbacks=[ReportCallback(options.run)],
        resume=options.resume,
    )
    if rank_of_environment() == 0:
        save_loss_curves(options.run)
        logger.info(str(result))
        report_after(options.run, options.store, result.reading, result.verdict)


def _run_diagnose(options: argparse.Namespace) -> None:
    """Say whether an archive can carry the method, what a run has learnt, and what to try next.

    Example:
        usvs diagnose STORE --profile quick
        usvs diagnose STORE RUN --labels labels.csv
        usvs diagnose STORE RUN --labels ARCHIVE.ground_truth --json
    """
    import json

    from usvs.tasks.diagnosis.diagnose import diagnose
    from usvs.tasks.pretraining.load import load_settings_of_run

    base = pretrain_profile(chosen_profile(options)) if options.run is None else load_settings_of_run(options.run)
    settings = chosen_settings(options, base)
    result = diagnose(options.store, options.run, options.labels, settings=settings, updates=options.updates)
    print_result(json.dumps(result.to_json(), indent=1) if options.json else result)


def _run_bench_step(options: argparse.Namespace) -> None:
    """Profile a training step.

    Example:
        usvs bench step STORE --profile quick --steps 5 --out step.json
    """
    import json

    from usvs.tasks.pretraining.step_profile import profile_step

    settings = chosen_settings(options, pretrain_profile(chosen_profile(options)))
    profile = profile_step(options.store, settings, options.steps)
    print_result(profile)
    if options.out is not None:
        options.out.write_text(json.dumps(profile.as_json(), indent=1) + "\n", encoding="utf-8")
