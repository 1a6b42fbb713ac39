"""Kills every command that writes at random instants and at the n-th file operation, resumes it, compares the results.

    python -m tests.faults.kills [--count 500] [--seed 0] [--only index] [--out docs/results/kills.json]

A command runs in a fork of this process. Half of the kills are SIGKILL at a random instant, half at a random file
operation (opening for writing, renaming, making and removing files and folders), which is not carried out. A run is
killed and resumed until it completes; its result must be that of an uninterrupted run. It is one file because it is
one command: five small workloads and the loop that kills them.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.faults import store_mutants
from tests.faults.forked import Ended, run_forked
from tests.support import labelled_stores
from tests.support.experiment_stubs import stub_measuring, stub_pretraining
from tests.support.media_files import write_video
from tests.support.pretraining_stores import tiny_settings, write_store
from usvs.audio.settings import SpectrogramSettings
from usvs.data.settings import AugmentSettings
from usvs.errors import ConfigError, UsvsError
from usvs.experiments.presets import ReproduceSettings
from usvs.experiments.reproduce import reproduce
from usvs.store.audit import audit_store
from usvs.store.catalogue import Catalogue
from usvs.store.indexing import index_archive
from usvs.store.prepare import prepare_store
from usvs.store.settings import ClipSettings, PrepareSettings
from usvs.tasks.classification.settings import ClassificationSettings
from usvs.tasks.finetune import finetune
from usvs.tasks.pretraining.pretrain import pretrain
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.tasks.saliency.settings import SaliencySettings
from usvs.training.checkpoint import step_folders
from usvs.training.settings import OptimiserSettings, RunSettings

LIMIT_SECONDS = 120.0
KILLS_PER_RUN = 12  # a run that was killed so often is completed without another kill
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
EVENTS = frozenset({"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree"})
CLIPS = ClipSettings(clip_seconds=0.5, speech_seconds=0.2, order_spacing_seconds=0.1, order_jitter_seconds=0.01)


@dataclass(frozen=True)
class Command:
    """A command and its result.

    Attributes:
        start: starts the command in a folder, or resumes it.
        result: returns a hash of what it wrote.
    """

    start: Callable[[Path], None]
    result: Callable[[Path], str]


def sha256_of(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def write_archive(archive: Path) -> Path:
    """Write three scans of two patients with sound, labels and gaze."""
    sound = 0.3 * np.sin(np.arange(48_000) * 0.2)
    for name, count in (("p1/a", 25), ("p1/b", 30), ("p2/c", 28)):
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(archive / f"{name}.mp4", count=count, sound=sound)
    (archive / "p2/c.planes.csv").write_text("start_seconds,end_seconds,plane\n0.5,1.0,femur\n")
    samples = "".join(f"{11_000 * number},0.5,0.5,1\n" for number in range(60))
    (archive / "p2/c.gaze.csv").write_text(f"timestamp_us,x,y,valid\n{samples}")
    return archive


def index_command(folder: Path) -> Command:
    archive = write_archive(folder / "archive")

    def result(run: Path) -> str:
        """Keys differ between stores, and with them nothing else."""
        catalogue = Catalogue.load(run / "store")
        rows = catalogue.scans.drop_columns(["scan_key", "patient_key"]).to_pylist()
        patients = [row.as_py() for row in catalogue.scans["patient_key"]]
        groups = [patients.index(key) for key in patients]
        left = sorted(path.name for path in (run / "store/catalogue").iterdir() if not path.name.startswith("clips."))
        return hashlib.sha256(repr((rows, groups, left, catalogue.clips.to_pydict())).encode()).hexdigest()

    return Command(lambda run: void(index_archive(archive, run / "store", clips=CLIPS, workers=1)), result)


def prepare_command(folder: Path) -> Command:
    index_archive(write_archive(folder / "archive"), folder / "indexed", clips=CLIPS, workers=1)

    def start(run: Path) -> None:
        prepare_store(run / "store", profile=PrepareSettings(frame_pixels=36), workers=1)

    def result(run: Path) -> str:
        findings = audit_store(run / "store", workers=1).findings
        assert not findings, findings
        prepared = run / "store/prepared"
        return sha256_of(prepared.rglob("*.*")) + repr(sorted(path.name for path in prepared.iterdir()))

    return Command(start_in_copy(start, folder / "indexed"), result)


def start_in_copy(start: Callable[[Path], None], template: Path) -> Callable[[Path], None]:
    """Start a command with a copy of a store, which is made before it can be killed."""

    def started(run: Path) -> None:
        start(run)

    started.template = template  # type: ignore[attr-defined]
    return started


def pretrain_command(folder: Path) -> Command:
    store = write_store(folder / "store")
    settings = tiny_settings(run={"compile": "eager", "loader_workers": 1, "checkpoint_every_steps": 1})

    def result(run: Path) -> str:
        last = step_folders(run / "run/checkpoints")[-1]
        return last.name + sha256_of(last.glob("*.safetensors"))

    return Command(lambda run: void(pretrain(store, run / "run", settings, resume=True)), result)


def task_settings() -> ClassificationSettings:
    return ClassificationSettings(
        profile="quick",
        model=labelled_stores.TINY_MODEL,
        augment=AugmentSettings(flip=False),
        optimiser=OptimiserSettings(kind="adamw", schedule="one_cycle", epochs=1, batch_clips=24),
        run=RunSettings(device="cpu", compile="eager"),
        temporal_stride=4,
        folds=2,
    )


def finetune_command(folder: Path) -> Command:
    store = labelled_stores.write_store(folder / "store", labelled_stores.PATIENTS)

    def start(run: Path) -> None:
        try:
            finetune("planes", store, run / "run", task_settings(), resume=True)
        except ConfigError:  # killed before it had a record: started anew
            finetune("planes", store, run / "run", task_settings())

    def result(run: Path) -> str:
        measured = json.loads((run / "run/results.json").read_text())
        return sha256_of((run / "run/models").rglob("*.safetensors")) + without_times(measured)

    return Command(start, result)


def reproduce_command(folder: Path) -> Command:
    """The expensive steps are stand-ins: the files that `reproduce` writes are what is tested."""
    store = store_mutants.write_store(folder / "store", "raw", scans=8)
    planes = task_settings()
    shared = {name: getattr(planes, name) for name in ("profile", "model", "optimiser", "run", "folds")}
    settings = ReproduceSettings(
        profile="quick",
        pretrain=PretrainSettings(
            profile="quick",
            model=planes.model,
            spectrogram=SpectrogramSettings(n_fft=256, frames=32),
            optimiser=planes.optimiser,
            run=planes.run,
            validation_fraction=0.0,
        ),
        planes=planes,
        gaze=SaliencySettings(**shared, temporal_stride=8, head_width=8),
        pretraining_fraction=0.5,
    )

    def start(run: Path) -> None:
        patch = pytest.MonkeyPatch()  # the process ends with it
        stub_measuring(patch, stub_pretraining(patch, planes.model.video))
        reproduce(store, run / "out", settings, seeds=[0])

    return Command(start, lambda run: without_times(json.loads((run / "out/results.json").read_text())))


def void(value: object) -> None:
    """Drop a result."""


def without_times(value: Any) -> str:
    """Return a hash of plain values without what differs between two equal runs."""

    def kept(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: kept(value) for name, value in part.items() if "second" not in name and name != "environment"}
        return [kept(item) for item in part] if isinstance(part, list) else part

    return hashlib.sha256(json.dumps(kept(value), sort_keys=True).encode()).hexdigest()


COMMANDS: dict[str, Callable[[Path], Command]] = {
    "index": index_command,
    "prepare": prepare_command,
    "pretrain": pretrain_command,
    "finetune": finetune_command,
    "reproduce": reproduce_command,
}


def count_operations(folder: Path, kill_at: int | None, counted: list[int]) -> None:
    """Count the file operations of this process below a folder from now on, and die before one of them."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not (isinstance(path, (str, bytes)) and isinstance(flags, int) and flags & WRITING):
                return
        elif event not in EVENTS:
            return
        if not os.fsdecode(arguments[0]).startswith(str(folder)) if isinstance(arguments[0], (str, bytes)) else True:
            return
        counted[0] += 1
        if counted[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def attempt(command: Command, run: Path, kill_at: int | None, seconds: float) -> Ended:
    """Start or resume a command in a fork that is killed at an operation or after some seconds."""
    counted = [0]

    def call() -> dict[str, str]:
        try:
            command.start(run)
        except UsvsError as error:
            return {"refused": str(error)}
        except BaseException as error:
            return {"traceback": repr(error)}
        return {"operations": str(counted[0])}

    return run_forked(call, seconds, before=partial(count_operations, run, kill_at, counted))


def make_run(command: Command, run: Path) -> Path:
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    template = getattr(command.start, "template", None)
    if template is not None:
        shutil.copytree(template, run / "store")
    return run


def try_kills(name: str, count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill a command `count` times; return what came of it."""
    started, choose = time.monotonic(), random.Random(f"{name} {seed}")
    folder.mkdir()
    command = COMMANDS[name](folder)
    complete = attempt(command, make_run(command, folder / "complete"), None, LIMIT_SECONDS)
    assert complete.value and "operations" in complete.value, (name, complete)
    operations, duration = int(complete.value["operations"]), complete.seconds
    expected = command.result(folder / "complete")
    kills: Counter[str] = Counter()
    problems: list[dict[str, Any]] = []
    runs = 0
    while sum(kills.values()) < count:
        run, history = make_run(command, folder / "run"), []
        while True:
            may_kill = len(history) < KILLS_PER_RUN and sum(kills.values()) < count
            by_operation = choose.random() < 0.5
            kill_at = choose.randrange(1, operations + 2) if may_kill and by_operation else None
            limit = choose.uniform(0, 1.1 * duration) if may_kill and not by_operation else LIMIT_SECONDS
            ended = attempt(command, run, kill_at, limit)
            if (ended.code == -signal.SIGKILL and limit < LIMIT_SECONDS) or (kill_at and ended.code == -signal.SIGKILL):
                kills["operation" if by_operation else "instant"] += 1
                history.append(f"operation {kill_at}" if by_operation else f"{limit:.2f} s")
                continue
            break
        runs += 1
        outcome = ended.value or {"traceback": f"ended with {ended.code}"}
        if "operations" not in outcome:
            problems.append({"kills": history, **outcome})
        elif (got := command.result(run)) != expected:
            problems.append({"kills": history, "result": f"expected {expected}, got {got}"})
    return {
        "kills": dict(kills),
        "runs": runs,
        "operations": operations,
        "seconds": round(time.monotonic() - started, 1),
        "problems": problems,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="kills of all commands together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=COMMANDS, action="append")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.only or list(COMMANDS)
    with tempfile.TemporaryDirectory(prefix="usvs-kills-") as folder:
        share = -(-options.count // len(names))
        result = {name: try_kills(name, share, options.seed, Path(folder) / name) for name in names}
    text = json.dumps({"count": options.count, "seed": options.seed, "commands": result}, indent=1)
    if options.out:
        options.out.write_text(text + "\n")
    print(text)
    sys.exit(any(entry["problems"] for entry in result.values()))


if __name__ == "__main__":
    main()
