"""A step must not read what its loss does not use, run a network twice, or wait for the device more than once."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from usvs.data.loader import make_loader
from usvs.data.rank_plan import RankPlan
from usvs.store.prepared import PreparedStore
from usvs.store.prepared_scan import PreparedScan
from usvs.tasks.pretraining.module import PretrainModel, model_inputs
from usvs.tasks.pretraining.task import PretrainingTask
from usvs.training.trainer import Trainer

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero"}


def some_batch():
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    speech = 0.1 * normal(2, 4, 2, 14_400)
    valid = torch.tensor([True, False, True, True])
    ordered = torch.tensor([True, True, False, True])
    return normal(4, 2, 1, 32, 32), normal(4, 4, 1, 32, 32), speech[0], speech[1], valid, torch.arange(4), ordered


def make(tiny) -> Trainer:
    settings = tiny(run={"compile": "eager"})
    torch.manual_seed(0)
    return Trainer(PretrainModel(settings), settings.optimiser, settings.run, 10, 5)


def test_each_network_runs_once_a_batch(tiny):
    trainer, calls = make(tiny), Counter()
    for name in ("video", "speech"):
        stem = getattr(trainer.module.streams, name).conv1
        stem.register_forward_hook(lambda _m, inputs, _o, n=name: calls.update({n: 1, f"{n} images": len(inputs[0])}))
    trainer.step(*some_batch())
    assert calls == {"video": 1, "video images": 3 * 2 + 3 * 4, "speech": 1, "speech images": 2 * 3 * 2}


def test_a_step_synchronises_with_the_device_once(tiny):
    """Masks stay on the host, so reading them does not synchronise."""
    seen = Counter()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            name = function.overloadpacket.__name__
            of_mask = bool(arguments) and isinstance(arguments[0], torch.Tensor) and arguments[0].dtype == torch.bool
            if name in WAITS and not of_mask:
                seen[name] += 1
            return function(*arguments, **(keywords or {}))

    trainer = make(tiny)
    trainer.step(*some_batch())
    with Watch():
        trainer.step(*some_batch())
    # The losses are read by one `tolist`, which the dispatcher does not see; nothing else may read a value.
    assert not seen


@pytest.mark.parametrize(
    ("objective", "frames", "speech"),
    [
        ({"order_weight": 0.0}, 6 * 2, True),
        ({"correspondence_weight": 0.0, "contrastive_weight": 0.0}, 6 * (2 + 4), False),
        ({}, 6 * (2 + 4), True),
    ],
)
def test_what_the_loss_does_not_use_is_not_read(noise_store, tiny, monkeypatch, objective, frames, speech):
    """The losses have the same bits as if it were."""
    settings, store, device = tiny(objective=objective), PreparedStore(noise_store), torch.device("cpu")
    task = PretrainingTask(settings)
    train, trainer = task.dataset(store).train, make_trainer(task)
    everything = RankPlan(train, settings.clips, settings.objective, 0, 6, rank=0, ranks=1)
    complete = trainer.evaluate(*model_inputs(make_loader(store, everything, settings.pairs, device).batch(0)))
    read = Counter()
    read_frames, read_speech = PreparedScan.read_frames, PreparedScan.speech
    monkeypatch.setattr(
        PreparedScan, "read_frames", lambda scan, *one: [read.update(frames=len(one[0])), read_frames(scan, *one)][1]
    )
    monkeypatch.setattr(PreparedScan, "speech", lambda scan, *one: [read.update(speech=1), read_speech(scan, *one)][1])
    _, loader = task.loader(store, train, device)
    assert trainer.evaluate(*model_inputs(loader.batch(0))) == complete
    assert (read["frames"], read["speech"] > 0) == (frames, speech)


def make_trainer(task: PretrainingTask) -> Trainer:
    return Trainer(task.module(), task.settings.optimiser, task.settings.run, 10, 5)
