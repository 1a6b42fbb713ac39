"""Commands for pretraining: pretrain, diagnose, bench."""

import argparse
from typing import Any, get_args

from usvs.cli.log_handler import show, show_preview, show_summary
from usvs.cli.options import Commands, add_command, chosen_profile, chosen_settings
from usvs.cli.path_arguments import check_path
from usvs.data.settings import LoaderName
from usvs.errors import ConfigError
from usvs.tasks.init_names import INIT_HELP
from usvs.tasks.pretraining.settings import OBJECTIVES, pretrain_profile


def add_pretrain_commands(commands: Commands) -> None:
    """Add the commands to the parser."""
    command = add_command(commands, "pretrain", _run_pretrain)
    command.add_store()
    command.add_path("run", "RUN", "a new folder for the run", "output_folder")
    command.add_choice(
        "--objective",
        OBJECTIVES,
        "the loss: a row of the paper's tables, or a control; default: joint",
        default="joint",
    )
    init = command.add_argument(
        "--init", metavar="INIT", help=f"initial weights of the video encoder: {INIT_HELP}; default: random"
    )
    command.expect(init, "weights")
    command.add_init_stores()
    command.add_switch("--allow-overlap", "use an init that was pretrained on a store that is not at hand")
    command.add_argument(
        "--encoder", metavar="NAME", help="a video encoder of usvs.list_encoders(); default: setting model.video"
    )
    command.add_choice(
        "--loader",
        get_args(LoaderName),
        "data-loading backend: torch and dali give the same samples; dali-video decodes the archive's H.264 on a GPU",
    )
    command.add_seed("of the weights and the sampling (setting run.seed)")
    command.add_switch("--resume", "resume the run in RUN, or start it if there is none")
    command.add_dry_run()
    command.add_json()
    command.add_settings(profile=True)

    command = add_command(commands, "diagnose", _run_diagnose)
    command.add_store()
    command.add_path("run", "RUN", "a run of 'usvs pretrain' on this store", "folder", optional=True)
    command.add_path(
        "--labels",
        "LABELS",
        "what is visible when: a csv file with columns file, start_seconds, end_seconds, label; a folder with a file"
        " PATH.intervals.csv for each scan; or 'store': the labels of frames in the store",
    )
    command.add_count("--updates", "updates of each supervised network, with --labels; default: 300")
    command.add_json()
    command.add_settings(profile=True)

    bench = commands.add_parser("bench", help="measure the speed of this machine")
    kinds = bench.add_subparsers(required=True, metavar="WHAT")
    command = add_command(kinds, "step", _run_bench_step)
    command.add_store()
    command.add_count("--steps", "number of measured steps; default: 5", default=5)
    command.add_path("--out", "FILE", "also write all values as JSON", "output_file")
    command.add_json()
    command.add_settings(profile=True)

    command = add_command(kinds, "loader", _run_bench_loader)
    command.add_store()
    command.add_choice("--loader", get_args(LoaderName), "data-loading backend; default: setting run.loader")
    command.add_count("--batches", "number of measured batches; default: 50", default=50)
    command.add_path("--out", "FILE", "also write all values as JSON", "output_file")
    command.add_json()
    command.add_settings(profile=True)


def _run_pretrain(options: argparse.Namespace) -> None:
    """Pretrain an encoder on video and speech, without labels.

    Example:
        usvs pretrain STORE RUN --profile quick --set optimiser.epochs=20
        usvs pretrain STORE RUN --profile quick --resume
        usvs pretrain STORE RUN2 --profile quick --init RUN
        usvs pretrain STORE RUN --profile quick --dry-run
    """
    from usvs.report.callback import ReportCallback
    from usvs.report.html import report_after
    from usvs.report.runs import save_loss_curves
    from usvs.tasks.pretraining.pretrain import pretrain
    from usvs.tasks.pretraining.preview import preview_pretraining
    from usvs.training.distributed import rank_of_environment

    base = pretrain_profile(chosen_profile(options))
    settings = chosen_settings(options, base, [*OBJECTIVES[options.objective], *_chosen_loader(options)])
    if options.init is None and (options.init_store or options.allow_overlap):
        unused = "--init-store" if options.init_store else "--allow-overlap"
        raise ConfigError(f"{unused}: expected --init as well, whose patients it is about")
    arguments: dict[str, Any] = {
        "encoder": options.encoder,
        "init": options.init,
        "init_stores": options.init_store,
        "allow_overlap": options.allow_overlap,
        "resume": options.resume,
    }
    if options.dry_run:
        show_preview(options, preview_pretraining(options.store, options.run, settings, **arguments))
        return
    result = pretrain(options.store, options.run, settings, callbacks=[ReportCallback(options.run)], **arguments)
    if rank_of_environment() == 0:
        save_loss_curves(options.run)
        show_summary(options, result)
        report_after(options.run, options.store, result.reading, result.verdict)


def _run_diagnose(options: argparse.Namespace) -> None:
    """Say whether an archive can carry the method, what a run has learnt, and what to try next.

    Example:
        usvs diagnose STORE --profile quick
        usvs diagnose STORE RUN --labels labels.csv
        usvs diagnose STORE RUN --labels ARCHIVE.ground_truth --json
    """
    from usvs.tasks.diagnosis.ceilings import UPDATES
    from usvs.tasks.diagnosis.diagnose import diagnose
    from usvs.tasks.diagnosis.labelled_samples import FROM_STORE
    from usvs.tasks.pretraining.load import load_settings_of_run

    if options.labels is None and options.updates is not None:
        raise ConfigError("--updates: expected --labels as well, which the supervised networks learn from")
    if options.labels is not None and str(options.labels) != FROM_STORE:
        check_path("--labels", "path", options.labels)
    base = pretrain_profile(chosen_profile(options)) if options.run is None else load_settings_of_run(options.run)
    settings = chosen_settings(options, base)
    updates = options.updates or UPDATES
    show(options, diagnose(options.store, options.run, options.labels, settings=settings, updates=updates))


def _run_bench_step(options: argparse.Namespace) -> None:
    """Profile a training step.

    Example:
        usvs bench step STORE --profile quick --steps 5 --out step.json
    """
    from usvs.tasks.pretraining.step_profile import profile_step
    from usvs.utils.plain_json import json_text

    settings = chosen_settings(options, pretrain_profile(chosen_profile(options)))
    profile = profile_step(options.store, settings, options.steps)
    show(options, profile, profile.as_json())
    if options.out is not None:
        options.out.write_text(json_text(profile.as_json()) + "\n", encoding="utf-8")


def _run_bench_loader(options: argparse.Namespace) -> None:
    """Measure the processor time of loading, and say how many cores feed a GPU.

    Example:
        usvs bench loader STORE --profile paper
        usvs bench loader STORE --profile paper --loader dali --batches 20 --out loader.json
    """
    from usvs.tasks.pretraining.loader_profile import profile_loader
    from usvs.utils.plain_json import json_text

    settings = chosen_settings(options, pretrain_profile(chosen_profile(options)), _chosen_loader(options))
    profile = profile_loader(options.store, settings, options.batches)
    show(options, profile, profile.as_json())
    if options.out is not None:
        options.out.write_text(json_text(profile.as_json()) + "\n", encoding="utf-8")


def _chosen_loader(options: argparse.Namespace) -> list[str]:
    return [] if options.loader is None else [f"run.loader={options.loader}"]
