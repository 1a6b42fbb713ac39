import os
import subprocess
import sys

import pytest
import torch

from usvs.tasks.pretraining.module import PretrainModel
from usvs.training.trainer import Trainer

B, K = 6, 2
IN_A_PROCESS_OF_ITS_OWN = "USVS_TEST_PROCESS"


def batch(step: int, valid=(True, False, True, True, False, True), ordered=(True,) * B):
    generator = torch.Generator().manual_seed(step)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    speech = 0.1 * normal(2, B, K, 14_400)
    order = torch.randint(0, 12, (B,), generator=generator)
    masks = torch.tensor(valid), torch.tensor(ordered)
    return normal(B, K, 1, 32, 32), normal(B, 4, 1, 32, 32), speech[0], speech[1], masks[0], order, masks[1]


def trainer(settings) -> Trainer:
    torch.manual_seed(settings.run.seed)
    return Trainer(PretrainModel(settings), settings.optimiser, settings.run, 10, 5)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "precision"), [("eq2", "float32"), ("ntxent", "bfloat16")])
def test_a_scripted_step_equals_the_eager_one_bit_for_bit(tiny, form, precision, request):
    """In a process of its own: after some hundred other tests the last bit of a few sums differed, why is open."""
    if not os.environ.get(IN_A_PROCESS_OF_ITS_OWN):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", request.node.nodeid]
        environment = os.environ | {IN_A_PROCESS_OF_ITS_OWN: "1"}
        done = subprocess.run(command, cwd=request.config.rootpath, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout
        return
    chosen = {"compile": "torchscript", "precision": precision}
    scripted = trainer(tiny(objective={"form": form}, run=chosen))
    eager = trainer(tiny(objective={"form": form}, run=chosen | {"compile": "eager"}))
    for step in range(3):
        assert scripted.step(*batch(step)) == eager.step(*batch(step))
    first, second = scripted.state_dict(), eager.state_dict()
    assert all(torch.equal(value, second.model[name]) for name, value in first.model.items())
    assert scripted.evaluate(*batch(9)) == eager.evaluate(*batch(9))


def test_clips_whose_pairs_do_not_count_matter_to_order_alone(tiny):
    inputs = batch(0)
    one = trainer(tiny(run={"compile": "eager"})).step(*inputs)
    for tensor in (inputs[0], inputs[2], inputs[3]):
        tensor[1] += 1.0
        tensor[4] *= -2.0
    assert trainer(tiny(run={"compile": "eager"})).step(*inputs) == one
    inputs[1][1] += torch.randn(4, 1, 32, 32)
    assert trainer(tiny(run={"compile": "eager"})).step(*inputs)["order"] != one["order"]


def test_video_alone_leaves_the_speech_stream_as_it_was(tiny):
    settings = tiny(objective={"correspondence_weight": 0, "contrastive_weight": 0})
    run = trainer(settings)
    before = {name: value.clone() for name, value in run.state_dict().model.items()}
    values = run.step(*batch(0))
    assert values["total"] == values["order"] > 0 and values["valid_pairs"] == 0
    changed = {name for name, value in run.state_dict().model.items() if not torch.equal(value, before[name])}
    assert any(name.startswith("streams.video.") for name in changed)
    assert not any(name.startswith("streams.speech.") for name in changed)


@pytest.mark.parametrize("objective", [{}, {"order_weight": 0}])
def test_a_batch_without_a_pair_that_counts_is_survived(tiny, objective):
    run = trainer(tiny(objective=objective))
    values = run.step(*batch(0, valid=[False] * B))
    assert values["valid_pairs"] == 0 and values["correspondence"] == values["contrastive"] == 0
    assert (values["order"] > 0) == (not objective)
    assert run.step(*batch(1))["valid_pairs"] == 8


@pytest.mark.slow
def test_every_term_is_learnt_on_one_batch(tiny):
    run = trainer(tiny(run={"compile": "eager"}))
    run.total_steps = run.steps_per_epoch = 40
    first = run.step(*batch(0))
    for _ in range(39):
        last = run.step(*batch(0))
    assert last["correspondence"] < 0.6 < first["correspondence"]
    assert last["contrastive"] < first["contrastive"] - 1.0
    assert last["order"] < first["order"] - 0.3
    assert last["retrieval_top1"] > 2 * last["retrieval_chance"]


def test_order_frames_that_are_not_shown_matter_to_nothing(tiny):
    inputs = batch(0, ordered=(True, False, True, False, False, True))
    one = trainer(tiny()).step(*inputs)
    for hidden in (1, 3, 4):
        inputs[1][hidden] += 1.0
        inputs[5][hidden] = (inputs[5][hidden] + 5) % 12
    assert trainer(tiny()).step(*inputs) == one
    inputs[1][0] += 1.0
    assert trainer(tiny()).step(*inputs) != one


def test_a_batch_that_shows_no_order_at_all_is_survived(tiny):
    values = trainer(tiny()).step(*batch(0, ordered=(False,) * B))
    assert values["order"] == 0 and values["contrastive"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("valid", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_the_streams_on_two_threads_give_the_bits_of_one(tiny, one_thread, valid, ordered):
    """Also without valid pairs, without the order task, and without both: then nothing can be learnt."""
    one, two = (trainer(_unshared(tiny(run={"threads": threads}))) for threads in (1, 2))
    assert two.compute.threads.of_branches == 2
    for step in range(3):
        inputs = batch(step, (valid,) * B, (ordered,) * B)
        assert one.step(*inputs) == two.step(*inputs)
    first, second = one.state_dict(), two.state_dict()
    assert all(torch.equal(value, second.model[name]) for name, value in first.model.items())


def test_a_shared_projection_keeps_the_streams_on_one_thread(tiny):
    settings = tiny(run={"threads": 2})
    assert settings.model.shared_projection and not PretrainModel(settings).branches_are_separate
    assert PretrainModel(_unshared(settings)).branches_are_separate


def _unshared(settings):
    return settings.model_copy(update={"model": settings.model.model_copy(update={"shared_projection": False})})
