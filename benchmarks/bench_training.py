"""Pretraining end to end, compared with a straightforward implementation: clips per second, memory, time to a loss.

    python -m benchmarks.bench_training [--threads 1 2] [--seconds 8] [--rounds 3] [--out FILE]

Makes a phantom archive, prepares it, and trains both in turns, each in a process of its own: the straightforward one
from the archive's mp4 files, usvs from the store, whose preparation is counted once over the paper's 80 epochs. Two
networks: the quick profile's, whose step is bound by its input as a GPU's would be, and the paper's SE-ResNeXt-50 at
224 x 224 with few clips per batch, bound by arithmetic. Rates of the quick network are medians over the rounds, those
of the large one of its median step, since its steps take seconds and wait for nothing. Both for every number of
threads. Under ten minutes on two cores by default. Prints a table and writes JSON with device and revision; one file
because it starts itself as the worker of each contender.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.memory import memory_mib
from usvs.tasks.pretraining.settings import PretrainSettings, pretrain_profile
from usvs.training.process import process_settings
from usvs.training.threads import compute_threads

EPOCHS = 80  # the paper's
WARM_UP = {"quick": 2, "paper": 1}  # steps
PAPER_STEPS = 3
CURVE_STEPS = 5  # between validations
MODELS = ("quick", "paper")
# Both train the paper's losses and augmentation: what the quick profile has beside them, the straightforward one lacks.
PAPER_OBJECTIVE = {"symmetric": False, "stream_weight": 0.0, "order_fraction": 1.0}
NAMES = {"peer": "straightforward", "float32": "usvs float32", "bfloat16": "usvs bfloat16"}


def settings_of(model: str, batch_clips: int, precision: str) -> PretrainSettings:
    base = pretrain_profile("quick" if model == "quick" else "paper")
    run = base.run.model_copy(update={"precision": precision, "seed": 1})
    optimiser = base.optimiser.model_copy(update={"batch_clips": batch_clips, "epochs": EPOCHS})
    # Pairs and order task from one clip, which the other decodes once; and of the large network so few clips a batch
    # that every one must count, or steps would not compare.
    objective = base.objective.model_copy(
        update={"resample_invalid_pairs": False, "affinity": model == "quick", "scan_run_clips": 1} | PAPER_OBJECTIVE
    )
    changes = {
        "run": run,
        "optimiser": optimiser,
        "objective": objective,
        "augment": base.augment.model_copy(update={"zoom": 1.0}),
        "validation_fraction": 0.25,
    }
    return base.model_copy(update=changes)


class Contender:
    """A way to train: `step` makes one update and says how long it waited for its batch."""

    def __init__(self, who: str, store: Path, settings: PretrainSettings) -> None:
        from usvs.data.sampling_plan import SamplingPlan
        from usvs.data.validation_split import split_store
        from usvs.store.prepared import PreparedStore
        from usvs.tasks.pretraining.module import PretrainModel
        from usvs.tasks.pretraining.validation import Validation
        from usvs.training.trainer import Trainer

        prepared = PreparedStore(store)
        split = split_store(prepared, settings.validation_fraction)
        clips = prepared.clips.select(split.clips_of(split.train, prepared.clips.scan))
        plan = SamplingPlan(clips, settings.clips, settings.objective, 1, settings.optimiser.batch_clips)
        torch.manual_seed(1)
        model = PretrainModel(settings)
        total = plan.steps_per_epoch * EPOCHS
        self.trainer = Trainer(model, settings.optimiser, settings.run, total, plan.steps_per_epoch)
        held_out = prepared.clips.select(split.clips_of(split.validation, prepared.clips.scan))
        self.watched = Validation(prepared, held_out, settings)
        self.model, self.settings, self.plan, self.done = model, settings, plan, 0
        self.batches = self._usvs(prepared) if who != "peer" else self._peers(store, list(prepared.scans))
        self.step_on = self._usvs_step if who != "peer" else self._peer_step

    def step(self) -> float:
        """Make one update; return the seconds it waited for its batch."""
        began = time.perf_counter()
        batch = next(self.batches)
        waited = time.perf_counter() - began
        self.step_on(batch)
        self.done += 1
        return waited

    def held_out_loss(self) -> float:
        """Return the total loss on patients held out, the same ones for all."""
        loss = self.watched.evaluate(self.model, self.trainer)["total"]
        self.model.train()
        return loss

    def _usvs(self, prepared: Any) -> Iterator[tuple[Tensor, ...]]:
        from usvs.data.loader import make_loader
        from usvs.tasks.pretraining.module import model_inputs

        loader = make_loader(prepared, self.plan, self.settings.pairs, self.trainer.device)
        for batch in loader.batches(0, self.trainer.total_steps):
            yield model_inputs(batch)

    def _usvs_step(self, batch: tuple[Tensor, ...]) -> None:
        self.trainer.step(*batch)

    def _peers(self, store: Path, keys: list[str]) -> Iterator[list[Tensor]]:
        from benchmarks.peers.straightforward import ScanDataset, StraightforwardModel, batches

        self.peer = StraightforwardModel(self.settings)
        self.peer.streams = self.model.streams.to(memory_format=torch.contiguous_format)  # read by held_out_loss
        chosen, parameters = self.settings.optimiser, self.peer.parameters()
        if chosen.kind == "adamw":
            self.update: torch.optim.Optimizer = torch.optim.AdamW(
                parameters, lr=chosen.learning_rate, weight_decay=chosen.weight_decay
            )
        else:
            self.update = torch.optim.SGD(
                parameters, lr=chosen.learning_rate, momentum=chosen.momentum, weight_decay=chosen.weight_decay
            )
        return batches(ScanDataset(store, self.plan, self.settings, keys), workers=2)

    def _peer_step(self, batch: list[Tensor]) -> None:
        from usvs.training.optimiser import learning_rate

        rate = learning_rate(self.done, self.trainer.total_steps, self.plan.steps_per_epoch, self.settings.optimiser)
        for group in self.update.param_groups:
            group["lr"] = rate
        self.update.zero_grad()
        self.peer(*batch).backward()
        torch.nn.utils.clip_grad_norm_(self.peer.parameters(), self.settings.optimiser.clip_norm)
        self.update.step()


def work(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train in this process for some seconds; validation losses in between do not count as time."""
    precision = "float32" if arguments.who == "peer" else arguments.who
    torch.set_num_threads(arguments.threads[0])
    contender = Contender(arguments.who, arguments.store, settings_of(arguments.model, arguments.clips, precision))
    with ExitStack() as stack:
        if arguments.who != "peer":  # as `usvs.pretrain` does
            stack.enter_context(process_settings(contender.trainer.device))
            stack.enter_context(compute_threads(contender.trainer.compute.threads))
        return measure(arguments, contender)


def measure(arguments: argparse.Namespace, contender: Contender) -> dict[str, Any]:
    steps, waits, curve, clock, children = [], [], [], 0.0, 0.0
    is_large = arguments.model == "paper"
    while True:
        began = time.perf_counter()
        waited = contender.step()
        took = time.perf_counter() - began
        clock += took
        children = max(children, children_mib())
        if contender.done > WARM_UP[arguments.model]:
            steps.append(took)
            waits.append(waited)
        if arguments.curve and contender.done % arguments.curve == 0:
            curve.append((clock, contender.held_out_loss()))
        if len(steps) >= PAPER_STEPS if is_large else len(steps) >= 2 and clock >= arguments.seconds:
            break
    peak_mib = memory_mib("VmHWM") + children
    contender.batches.close()  # type: ignore[attr-defined]
    return {
        "clips_per_second": arguments.clips / (statistics.median(steps) if is_large else statistics.mean(steps)),
        "step_seconds": statistics.median(steps),
        "wait_share": sum(waits) / sum(steps),
        "peak_mib": peak_mib,
        "steps": contender.done,
        "curve": curve,
    }


def children_mib() -> float:
    """What this process's children hold for themselves, such as a loader's processes; shared pages count once."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    pids = listed.read_text().split() if listed.exists() else []
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return total / 1024


def run(who: str, model: str, store: Path, clips: int, seconds: float, curve: int, threads: int) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.bench_training",
        "--worker",
        "--who",
        who,
        "--model",
        model,
        "--store",
        str(store),
    ]
    command += ["--clips", str(clips), "--seconds", str(seconds), "--curve", str(curve), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{who} on {model} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def make_store(folder: Path, model: str, patients: int) -> tuple[Path, float]:
    """Return a store for one network, and the seconds it took to index and prepare a clip."""
    from usvs.phantom import make_phantom
    from usvs.store.indexing import index_archive
    from usvs.store.prepare import prepare_store
    from usvs.store.prepared import PreparedStore

    archive, store = folder / "archive", folder / f"store-{model}"
    if not archive.exists():
        make_phantom(archive, patients=patients, seed=1)
    if not store.exists():
        began = time.perf_counter()
        index_archive(archive, store)
        prepare_store(store, profile="quick" if model == "quick" else "paper")
        (folder / f"seconds-{model}").write_text(str(time.perf_counter() - began))
    return store, float((folder / f"seconds-{model}").read_text()) / len(PreparedStore(store).clips)


def crossing(curve: list[list[float]], target: float) -> float | None:
    return next((seconds for seconds, loss in curve if loss <= target), None)


def compare(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    rows = []
    for model, threads in product(arguments.models, arguments.threads):
        store, prepare_seconds = make_store(folder, model, arguments.patients)
        clips = arguments.quick_clips if model == "quick" else arguments.paper_clips
        rounds = arguments.rounds if model == "quick" else 1
        results: dict[str, list[dict[str, Any]]] = {who: [] for who in NAMES}
        for number in range(rounds):
            curve = CURVE_STEPS if model == "quick" and number == 0 else 0
            for who in NAMES:
                print(f"{model}, {threads} threads: {NAMES[who]} ...", file=sys.stderr)
                results[who].append(run(who, model, store, clips, arguments.seconds, curve, threads))
        for who, taken in results.items():
            rate = statistics.median(one["clips_per_second"] for one in taken)
            counted = rate if who == "peer" else 1 / (1 / rate + prepare_seconds / EPOCHS)
            row = {key: statistics.median(one[key] for one in taken) for key in ("step_seconds", "wait_share")}
            row |= {"network": model, "who": NAMES[who], "batch_clips": clips, "clips_per_second": counted}
            row["threads"] = threads
            row |= {"peak_mib": max(one["peak_mib"] for one in taken), "curve": taken[0]["curve"]}
            rows.append(row)
        _relate(rows[-len(NAMES) :])
    return rows


def _relate(rows: list[dict[str, Any]]) -> None:
    peer = rows[0]
    target = min((loss for _, loss in peer["curve"]), default=None)
    for row in rows:
        row["speedup"] = row["clips_per_second"] / peer["clips_per_second"]
        row["memory_share"] = row["peak_mib"] / peer["peak_mib"]
        row["target_loss"] = target
        row["seconds_to_target"] = None if target is None else crossing(row["curve"], target)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "network | threads | who | batch | clips/s | ratio | step | waiting | peak memory | share | to validation loss",
        "---|---|---|---|---|---|---|---|---|---|---",
    ]
    for row in rows:
        reached = row["seconds_to_target"]
        to_loss = "" if row["target_loss"] is None else f"{row['target_loss']:.3f}: "
        to_loss += ("not reached" if to_loss else "") if reached is None else f"{reached:.0f} s"
        lines.append(
            f"{row['network']} | {row['threads']} | {row['who']} | {row['batch_clips']} |"
            f" {row['clips_per_second']:.2f} | {row['speedup']:.2f} x | {row['step_seconds']:.3f} s |"
            f" {row['wait_share']:.1%} | {row['peak_mib']:.0f} MiB | {row['memory_share']:.0%} | {to_loss}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of training a round, quick network")
    parser.add_argument("--rounds", type=int, default=3, help="of the quick network")
    parser.add_argument("--patients", type=int, default=4, help="of the phantom archive, a scan of 90 s each")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--quick-clips", type=int, default=16, help="clips a batch, quick network")
    parser.add_argument("--paper-clips", type=int, default=2, help="clips a batch, SE-ResNeXt-50")
    both = sorted({1, torch.get_num_threads()})
    parser.add_argument("--threads", type=int, nargs="+", default=both, help="that compute; each is measured")
    parser.add_argument("--folder", type=Path, help="keeps archive and store for another run")
    parser.add_argument("--out", type=Path, help="JSON file")
    for hidden in ("who", "model"):
        parser.add_argument(f"--{hidden}", help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--clips", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--curve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(work(arguments)))
        return
    from usvs.training.environment import describe_environment

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        rows = compare(arguments, arguments.folder or Path(temporary))
    print(table(rows))
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    if arguments.out:
        report = {"environment": describe_environment(torch.device("cpu")), "rows": rows}
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
