"""Commands about pretraining: pretrain, bench."""

import argparse
import logging
from pathlib import Path

from usvs.cli.options import Commands, add_settings_options, chosen_profile, chosen_settings, count
from usvs.tasks.pretraining.settings import OBJECTIVES, pretrain_profile

logger = logging.getLogger(__name__)


def add_pretrain_commands(commands: Commands) -> None:
    """Add them to the command."""
    command = commands.add_parser("pretrain", help="learn from video and speech without labels")
    command.add_argument("store", type=Path, metavar="STORE")
    command.add_argument("run", type=Path, metavar="RUN", help="a new folder for the run")
    command.add_argument("--objective", choices=OBJECTIVES, default="joint", help="which row of the paper's tables")
    command.add_argument("--loader", choices=["torch", "dali"], help="who decodes; both give the same samples")
    command.add_argument("--seed", type=int)
    command.add_argument("--resume", action="store_true", help="go on with the run that stands in RUN")
    add_settings_options(command, profile=True)
    command.set_defaults(run_command=_pretrain)

    bench = commands.add_parser("bench", help="measure this machine")
    kinds = bench.add_subparsers(required=True, metavar="WHAT")
    command = kinds.add_parser("step", help="where a pretraining step's time goes, and what feeding a device takes")
    command.add_argument("store", type=Path, metavar="STORE")
    command.add_argument("--steps", type=count, default=5, help="how many are measured")
    command.add_argument("--out", type=Path, metavar="FILE", help="also write everything as JSON")
    add_settings_options(command, profile=True)
    command.set_defaults(run_command=_bench_step)


def _pretrain(options: argparse.Namespace) -> None:
    from usvs.report.runs import save_loss_curves
    from usvs.tasks.pretraining.pretrain import pretrain
    from usvs.training.distributed import rank_of_environment

    chosen = [] if options.loader is None else [f"run.loader={options.loader}"]
    settings = chosen_settings(
        options, pretrain_profile(chosen_profile(options)), [*OBJECTIVES[options.objective], *chosen]
    )
    result = pretrain(options.store, options.run, settings, resume=options.resume)
    if rank_of_environment() == 0:
        save_loss_curves(options.run)
        logger.info(str(result))


def _bench_step(options: argparse.Namespace) -> None:
    import json

    from usvs.tasks.pretraining.step_profile import profile_step

    profile = profile_step(
        options.store, chosen_settings(options, pretrain_profile(chosen_profile(options))), options.steps
    )
    print(profile)
    if options.out is not None:
        options.out.write_text(json.dumps(profile.as_json(), indent=1) + "\n", encoding="utf-8")
