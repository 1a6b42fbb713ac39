import pytest
import torch

from usvs.config import EncoderSettings
from usvs.errors import DataError
from usvs.models.pretrained import load_encoder_weights
from usvs.models.resnext_se import SEResNeXt

TINY = EncoderSettings(layers=(1, 1, 1, 1), cardinality=2, base_width=32, stem_width=8, se_ratio=1 / 8)


def test_a_whole_checkpoint_loads_whatever_the_stride():
    torch.manual_seed(0)
    source, target = SEResNeXt(TINY), SEResNeXt(TINY.model_copy(update={"output_stride": 8}))
    report = load_encoder_weights(target, source.state_dict())
    assert (report.missing, report.unexpected) == ((), ())
    assert set(report.loaded) == set(source.state_dict())
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


def test_what_is_missing_and_what_is_not_known_is_said():
    encoder = SEResNeXt(TINY)
    before = encoder.layer1[0].se.fc1.weight.clone()
    state = {name: value + 1 for name, value in SEResNeXt(TINY).state_dict().items() if ".se." not in name}
    report = load_encoder_weights(encoder, {**state, "fc.weight": torch.zeros(10, 256)})
    assert report.unexpected == ("fc.weight",)
    assert len(report.missing) == 4 * 4
    assert all(".se." in name for name in report.missing)
    assert torch.equal(encoder.layer1[0].se.fc1.weight, before)
    assert torch.equal(encoder.conv1.weight, state["conv1.weight"])


def test_another_shape_is_refused_and_nothing_changed():
    encoder = SEResNeXt(TINY)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    state["layer4.0.conv3.weight"] = torch.zeros(3, 3, 1, 1)
    with pytest.raises(DataError, match=r"layer4\.0\.conv3\.weight.*\[256, 64, 1, 1\].*\[3, 3, 1, 1\]"):
        load_encoder_weights(encoder, state)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_names_of_another_network_are_refused():
    with pytest.raises(DataError, match=r"wanted names such as conv1\.weight.*got features\.0\.weight"):
        load_encoder_weights(SEResNeXt(TINY), {"features.0.weight": torch.zeros(1)})
