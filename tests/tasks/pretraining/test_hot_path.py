"""A step must not run a network twice, or synchronise with the device more than once."""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from usvs.tasks.pretraining.module import PretrainModel
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
