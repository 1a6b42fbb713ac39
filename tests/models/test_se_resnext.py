import math

import pytest
import torch

from usvs.models.se_resnext import SEResNeXt, squeezed_channels
from usvs.models.settings import QUICK_ENCODER, EncoderSettings

TINY = EncoderSettings(layers=(1, 1, 2, 2), cardinality=2, base_width=32, stem_width=8, se_ratio=1 / 8)

# Names and shapes as timm's seresnext50_32x4d has them (its stem has three input channels).
TIMM_SHAPES = {
    "conv1.weight": (64, 1, 7, 7),
    "bn1.running_var": (64,),
    "layer1.0.conv1.weight": (128, 64, 1, 1),
    "layer1.0.conv2.weight": (128, 4, 3, 3),
    "layer1.0.conv3.weight": (256, 128, 1, 1),
    "layer1.0.bn3.bias": (256,),
    "layer1.0.se.fc1.weight": (16, 256, 1, 1),
    "layer1.0.se.fc1.bias": (16,),
    "layer1.0.se.fc2.weight": (256, 16, 1, 1),
    "layer1.0.se.fc2.bias": (256,),
    "layer1.0.downsample.0.weight": (256, 64, 1, 1),
    "layer1.0.downsample.1.running_mean": (256,),
    "layer1.2.conv1.weight": (128, 256, 1, 1),
    "layer2.0.conv2.weight": (256, 8, 3, 3),
    "layer2.3.se.fc1.weight": (32, 512, 1, 1),
    "layer3.0.downsample.0.weight": (1024, 512, 1, 1),
    "layer3.5.se.fc2.weight": (1024, 64, 1, 1),
    "layer4.0.conv1.weight": (1024, 1024, 1, 1),
    "layer4.2.conv2.weight": (1024, 32, 3, 3),
    "layer4.2.se.fc1.weight": (128, 2048, 1, 1),
    "layer4.2.bn3.weight": (2048,),
}
TIMM_PARAMETERS = 27_559_896  # seresnext50_32x4d with its 1000 classes and three channels


@pytest.fixture(scope="module")
def fifty() -> SEResNeXt:
    return SEResNeXt(EncoderSettings())


def test_names_and_shapes_equal_timm(fifty):
    state = fifty.state_dict()
    for name, shape in TIMM_SHAPES.items():
        assert tuple(state[name].shape) == shape, name
    blocks = {name.rsplit(".", 2)[0] for name in state if name.endswith("se.fc1.weight")}
    assert len(blocks) == 3 + 4 + 6 + 3
    assert sum("downsample.0" in name for name in state) == 4
    assert not any(name.startswith("fc") for name in state)


def test_parameter_count_is_timms_less_classes_and_two_channels(fifty):
    without = (2048 * 1000 + 1000) + 2 * 64 * 7 * 7
    assert sum(parameter.numel() for parameter in fifty.parameters()) == TIMM_PARAMETERS - without


def test_parameter_count_follows_from_the_formulas():
    """The same number computed from the widths, an independent check of the constant."""
    total, channels = 64 * 49 + 2 * 64, 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        planes = 64 * 2**stage
        width, out = math.floor(planes * 4 / 64) * 32, planes * 4
        for block in range(blocks):
            convolutions = channels * width + width * (width // 32) * 9 + width * out
            gate = 2 * out * (out // 16) + out + out // 16
            total += convolutions + 2 * (width + width + out) + gate
            if block == 0:
                total += channels * out + 2 * out
            channels = out
    assert total == TIMM_PARAMETERS - 2_049_000 - 6_272


@pytest.mark.parametrize(("stride", "side"), [(8, 12), (16, 6), (32, 3)])
def test_output_stride_changes_the_map_and_no_parameter(stride, side):
    torch.manual_seed(0)
    encoder = SEResNeXt(TINY.model_copy(update={"output_stride": stride})).eval()
    other = SEResNeXt(TINY.model_copy(update={"output_stride": 32}))
    assert encoder.stride == stride
    other.load_state_dict(encoder.state_dict())
    images = torch.randn(2, 1, 96, 96)
    maps = encoder.forward_features(images)
    assert maps.shape == (2, encoder.num_features, side, side)
    torch.testing.assert_close(encoder(images), maps.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("stride", "dilations"),
    # The first block of a stage keeps the dilation before it, later blocks take the new one.
    [(32, [(1, 1), (1, 1)]), (16, [(1, 1), (1, 2)]), (8, [(1, 2), (2, 4)])],
)
def test_dilation_equals_timm(stride, dilations):
    encoder = SEResNeXt(TINY.model_copy(update={"output_stride": stride}))
    found = [tuple(block.conv2.dilation[0] for block in stage) for stage in (encoder.layer3, encoder.layer4)]
    assert found == dilations
    assert [block.conv2.stride[0] for block in encoder.layer4] == [2 if stride == 32 else 1, 1]


def test_dilated_network_agrees_with_the_strided_one_where_they_meet():
    """Dilation samples the same filter more densely: every other point equals the strided convolution's."""
    torch.manual_seed(0)
    dense = SEResNeXt(TINY.model_copy(update={"output_stride": 16, "layers": (1, 1, 1, 1)})).eval()
    coarse = SEResNeXt(TINY.model_copy(update={"output_stride": 32, "layers": (1, 1, 1, 1)})).eval()
    coarse.load_state_dict(dense.state_dict())
    maps = torch.randn(1, 1, 64, 64)
    for name in ("conv1", "bn1", "maxpool", "layer1", "layer2", "layer3"):
        maps = getattr(dense, name)(maps)
    # The gate uses the mean of another grid, so the comparison is before it.
    block, strided = dense.layer4[0], coarse.layer4[0]
    inner = block.bn1(block.conv1(maps)).relu()
    torch.testing.assert_close(block.conv2(inner)[:, :, ::2, ::2], strided.conv2(inner))


def test_squeezed_channels_round_to_eight():
    assert [squeezed_channels(channels, 1 / 16) for channels in (64, 256, 512, 1024, 2048)] == [8, 16, 32, 64, 128]
    assert squeezed_channels(320, 1 / 16) == 24  # 20 rounds up, as in timm
    assert squeezed_channels(448, 1 / 16) == 32


def test_gate_scales_channels_by_their_means():
    encoder = SEResNeXt(TINY)
    gate = encoder.layer1[0].se
    maps = torch.randn(2, 32, 5, 4)
    means = maps.mean(dim=(2, 3))
    hidden = (means @ gate.fc1.weight.flatten(1).T + gate.fc1.bias).relu()
    scale = torch.sigmoid(hidden @ gate.fc2.weight.flatten(1).T + gate.fc2.bias)
    torch.testing.assert_close(gate(maps), maps * scale[:, :, None, None])


def test_channels_last_gives_the_same_and_reaches_the_end():
    torch.manual_seed(0)
    encoder = SEResNeXt(TINY).eval()
    images = torch.randn(2, 1, 64, 64)
    expected = encoder.forward_features(images)
    maps = encoder.to(memory_format=torch.channels_last).forward_features(images)
    assert maps.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4)


def test_every_parameter_of_the_untrained_network_has_a_gradient():
    """Rand is a control that is evaluated frozen: no block may start as its shortcut alone."""
    encoder = SEResNeXt(QUICK_ENCODER)
    images = torch.randn(8, 1, 64, 64)
    encoder(images).square().sum().backward()
    dead = [name for name, parameter in encoder.named_parameters() if parameter.grad.abs().sum() == 0]
    assert dead == []
