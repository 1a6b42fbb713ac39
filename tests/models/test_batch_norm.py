import pytest
import torch
from torch import nn

from usvs.errors import DataError
from usvs.models.batch_norm import calibrate_batch_norm


def _model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout(0.5), nn.Conv2d(4, 2, 1))


def test_statistics_are_the_average_over_the_batches():
    model = _model()
    nn.init.constant_(model[1].running_mean, 9.0)
    batches = [torch.randn(3, 1, 6, 6) + shift for shift in (0.0, 2.0)]
    calibrate_batch_norm(model, batches)
    outputs = [model[0](batch) for batch in batches]
    mean = torch.stack([output.mean(dim=(0, 2, 3)) for output in outputs]).mean(dim=0)
    variance = torch.stack([output.var(dim=(0, 2, 3)) for output in outputs]).mean(dim=0)
    torch.testing.assert_close(model[1].running_mean, mean)
    torch.testing.assert_close(model[1].running_var, variance)


def test_nothing_else_changes():
    model = _model()
    model[2].eval()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    calibrate_batch_norm(model, (torch.randn(2, 1, 6, 6) for _ in range(2)))
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    assert [module.training for module in model.modules()] == modes
    assert model[1].momentum == 0.3


def test_two_calibrations_on_the_same_images_agree_whatever_was_before():
    first, second = _model(), _model()
    images = torch.randn(8, 1, 6, 6)
    second.train()(torch.randn(8, 1, 6, 6) * 50)
    for model in (first, second):
        calibrate_batch_norm(model, [images])
        model.eval()
    torch.testing.assert_close(first(images), second(images))


def test_no_batch_is_an_error():
    with pytest.raises(DataError, match="at least one batch"):
        calibrate_batch_norm(_model(), [])
