"""Verbs about pretraining: pretrain, bench."""

import argparse
from pathlib import Path

from usvs.cli.options import Verbs, add_settings_options, chosen_profile, chosen_settings, count
from usvs.config import OBJECTIVES, pretrain_profile
from usvs.progress import say


def add_pretrain_verbs(verbs: Verbs) -> None:
    """Add them to the command."""
    verb = verbs.add_parser("pretrain", help="learn from video and speech without labels")
    verb.add_argument("store", type=Path, metavar="STORE")
    verb.add_argument("run", type=Path, metavar="RUN", help="a new folder for the run")
    verb.add_argument("--objective", choices=OBJECTIVES, default="ours", help="which row of the paper's tables")
    verb.add_argument("--loader", choices=["torch", "dali"], help="who decodes; both give the same samples")
    verb.add_argument("--seed", type=int)
    verb.add_argument("--resume", action="store_true", help="go on with the run that stands in RUN")
    add_settings_options(verb, profile=True)
    verb.set_defaults(run_verb=_pretrain)

    bench = verbs.add_parser("bench", help="measure this machine")
    kinds = bench.add_subparsers(required=True, metavar="WHAT")
    verb = kinds.add_parser("step", help="where a pretraining step's time goes, and what feeding a device takes")
    verb.add_argument("store", type=Path, metavar="STORE")
    verb.add_argument("--steps", type=count, default=5, help="how many are measured")
    verb.add_argument("--out", type=Path, metavar="FILE", help="also write everything as JSON")
    add_settings_options(verb, profile=True)
    verb.set_defaults(run_verb=_bench_step)


def _pretrain(options: argparse.Namespace) -> None:
    from usvs.report.plots import save_loss_curves
    from usvs.training.distributed import rank_of_environment
    from usvs.training.pretrain import pretrain

    chosen = [] if options.loader is None else [f"run.loader={options.loader}"]
    settings = chosen_settings(
        options, pretrain_profile(chosen_profile(options)), [*OBJECTIVES[options.objective], *chosen]
    )
    result = pretrain(options.store, options.run, settings, resume=options.resume)
    if rank_of_environment() == 0:
        save_loss_curves(options.run)
        say(str(result))


def _bench_step(options: argparse.Namespace) -> None:
    import json

    from usvs.training.step_profile import profile_step

    profile = profile_step(
        options.store, chosen_settings(options, pretrain_profile(chosen_profile(options))), options.steps
    )
    print(profile)
    if options.out is not None:
        options.out.write_text(json.dumps(profile.as_json(), indent=1) + "\n", encoding="utf-8")
