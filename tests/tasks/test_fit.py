import numpy as np
import torch

from usvs.models.narrow_convolution import WideningConv2d
from usvs.models.se_resnext import SEResNeXt
from usvs.tasks.classification.planes import planes_task
from usvs.tasks.fit import evaluate_module, fit_module, predict_batches

TASK = planes_task()


def new_encoder(settings):
    torch.manual_seed(1)
    return SEResNeXt(settings.model.video)


def predicted(store, table, module, settings):
    batches = predict_batches(TASK, store, table, module, settings)
    return np.concatenate([logits.argmax(dim=1).numpy() for _, logits in batches])


def test_it_learns_three_planes_and_names_them_on_other_patients(halves, tiny_planes):
    store, train, test = halves
    settings = tiny_planes.model_copy(update={"run": tiny_planes.run.model_copy(update={"compile": "torchscript"})})
    module, updates = fit_module(TASK, store, train, new_encoder(settings), settings)
    assert updates == len(train) // 24 * 6
    scores = evaluate_module(TASK, store, test, module, settings)
    assert scores.f1 > 0.9
    assert len(scores.left_out) == 11


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(halves, tiny_planes):
    store, train, _ = halves
    short = tiny_planes.model_copy(update={"optimiser": tiny_planes.optimiser.model_copy(update={"epochs": 1})})
    other = short.model_copy(update={"run": short.run.model_copy(update={"seed": 1})})
    weights = [
        fit_module(TASK, store, train, new_encoder(settings), settings)[0].state_dict()
        for settings in (short, short, other)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["head.classify.weight"], weights[2]["head.classify.weight"])


def test_predictions_do_not_depend_on_what_else_is_predicted(halves, tiny_planes):
    store, train, test = halves
    one_epoch = tiny_planes.model_copy(update={"optimiser": tiny_planes.optimiser.model_copy(update={"epochs": 1})})
    module, _ = fit_module(TASK, store, train, new_encoder(one_epoch), one_epoch)
    together = predicted(store, test, module, one_epoch)
    some = np.arange(5, 20)
    np.testing.assert_array_equal(predicted(store, test.take(some), module, one_epoch), together[some])
    assert module.training is False


def test_predictions_in_bfloat16_widen_convolutions(halves, tiny_planes):
    store, _, test = halves
    half = tiny_planes.model_copy(update={"run": tiny_planes.run.model_copy(update={"precision": "bfloat16"})})
    for settings in (tiny_planes, half):
        module = TASK.module(new_encoder(settings), test, settings)
        predicted(store, test.take(np.arange(5)), module, settings)
        assert any(isinstance(child, WideningConv2d) for child in module.modules()) == (settings is half)


def test_fewer_frames_than_a_batch_are_one_batch(halves, tiny_planes):
    store, train, _ = halves
    _, updates = fit_module(TASK, store, train.take(np.arange(0, 24, 3)), new_encoder(tiny_planes), tiny_planes)
    assert updates == 6
