"""Runs a function in several processes at once, like torchrun, but forked from a process that has loaded torch already.

    python tests/training/ranks.py JOBS.json

JOBS is a list of {"call": name of a function below, "ranks": number of processes, ... its other arguments}. All exit
codes are printed. A program of its own, since a process that has used threads must not fork.
"""

import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import tests.support.loaded_before_fork  # noqa: F401
from usvs.config import load_settings
from usvs.errors import UsvsError
from usvs.models.se_resnext import SEResNeXt
from usvs.tasks.classification.module import ClassificationModule
from usvs.tasks.classification.settings import ClassificationSettings
from usvs.tasks.finetune import finetune
from usvs.tasks.pretraining.module import PairOutputs, PretrainModel
from usvs.tasks.pretraining.pretrain import pretrain
from usvs.tasks.pretraining.settings import PretrainSettings
from usvs.tasks.saliency.module import SaliencyModule
from usvs.tasks.saliency.settings import SaliencySettings
from usvs.training.distributed import join_ranks
from usvs.training.micro_batches import BatchShard
from usvs.training.trainer import Trainer

torch.set_num_threads(1)


def run_pretraining(
    store: str, run: str, settings: str, resume: bool = False, sigterm_after: int = 0, poison_after: int = -1
) -> None:
    """Pretrain; the second rank alone gets SIGTERM in a step, or has a frame that is not finite."""
    step = Trainer.step

    def disturbed(self: Trainer, *batch: Tensor, **shard: BatchShard | None) -> dict[str, float]:
        second = self.ranks.number == 1
        if second and self.step_number == poison_after:
            batch = (batch[0], batch[1] * float("nan"), *batch[2:])
        values = step(self, *batch, **shard)
        if second and self.step_number == sigterm_after:
            os.kill(os.getpid(), signal.SIGTERM)
        return values

    Trainer.step = disturbed  # type: ignore[method-assign]
    pretrain(store, run, load_settings(PretrainSettings(), Path(settings)), resume=resume)


def run_finetuning(task: str, store: str, run: str, settings: str) -> None:
    """Fine-tune a random init on every fold."""
    defaults = ClassificationSettings() if task == "planes" else SaliencySettings()
    finetune(task, store, run, load_settings(defaults, Path(settings)))


class DoubleSpectrogram(nn.Module):
    def __init__(self, spectrogram: nn.Module) -> None:
        super().__init__()
        self.spectrogram = spectrogram

    def forward(self, waveform: Tensor) -> Tensor:
        return self.spectrogram(waveform.float()).double()


def make_task(name: str, settings: PretrainSettings) -> nn.Module:
    if name == "pretrain":
        return PretrainModel(settings)
    encoder = SEResNeXt(settings.model.video)
    if name == "gaze":
        return SaliencyModule(encoder, 8, 0.1, 0.2)
    return ClassificationModule(encoder, 3, torch.tensor([0.5, 1.0, 2.0]))


def train(
    settings: str,
    batches: str,
    split: list[list[int]],
    out: str,
    steps: int = 20,
    double: bool = False,
    task: str = "pretrain",
    also_after: Sequence[int] = (),
) -> None:
    """Make a step on each batch, each rank with its rows, and save rank 0's state at the end and `also_after`."""
    chosen, tensors = load_settings(PretrainSettings(), Path(settings)), load_file(batches)
    with join_ranks("cpu") as ranks:
        torch.manual_seed(chosen.run.seed)
        model = make_task(task, chosen)
        if double and task == "pretrain":
            model.spectrogram = DoubleSpectrogram(model.spectrogram)
        if double:
            model.double()
        trainer = Trainer(model, chosen.optimiser, chosen.run, 20, 5, ranks)
        mine = torch.tensor(split[ranks.number], dtype=torch.int64)
        shard = BatchShard(mine, sum(map(len, split)))
        history = []
        for step in range(steps):
            inputs = sum(name.startswith(f"{step}.") for name in tensors)
            batch = [tensors[f"{step}.{i}"][mine] for i in range(inputs)]
            if double:
                batch = [part.double() if part.is_floating_point() else part for part in batch]
            values = trainer.step(*batch, shard=shard)
            history.append(torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64))
            if ranks.first and (step + 1 == steps or step + 1 in also_after):
                state = {name: value.contiguous().clone() for name, value in trainer.state_dict().model.items()}
                save_file({**state, "history": torch.stack(history)}, out if step + 1 == steps else f"{out}.{step + 1}")


def embedding_gradients(settings: str, embeddings: str, split: list[int], out: str) -> None:
    """Save each rank's gradients of the objective with respect to its rows of the given outputs."""
    chosen, rows = load_settings(PretrainSettings(), Path(settings)), load_file(embeddings)
    with join_ranks("cpu") as ranks:
        start = sum(split[: ranks.number])
        mine = {n: v[start : start + split[ranks.number]].clone() for n, v in rows.items()}
        leaves = {n: v.requires_grad_(v.is_floating_point()) for n, v in mine.items()}
        model = PretrainModel(chosen)
        outputs = PairOutputs(**leaves)
        loss = model.loss(outputs, model.global_batch(outputs, ranks) if ranks.count > 1 else None)
        loss.total.backward()
        gradients = {n: v.grad for n, v in leaves.items() if v.grad is not None}
        total = ranks.total(torch.stack([value.detach() for value in loss]))
        save_file({**gradients, "losses": total}, f"{out}.{ranks.number}")


def start(call: str, ranks: int, **arguments: object) -> list[int]:
    """Run a function on `ranks` processes; return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            os._exit(_in_child(call, rank, ranks, port, arguments))
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _in_child(call: str, rank: int, ranks: int, port: int, arguments: dict[str, object]) -> int:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        globals()[call](**arguments)
        return 0
    except UsvsError as error:
        print(f"rank {rank}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    print(json.dumps([start(**job) for job in json.loads(Path(sys.argv[1]).read_text())]))
