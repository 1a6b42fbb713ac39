from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from usvs.errors import DataError
from usvs.models.sononet import (
    SONONET_CLASSES,
    SonoNet,
    SonoNetEncoder,
    make_sononet,
    sononet_images,
    sononet_state,
    standardised,
)
from usvs.models.weight_files import read_weights


def lasagne_arrays(width, seed=0):
    """Weights of a network of that width in the published order: weight, beta, gamma, mean, 1 / deviation a layer."""
    random = np.random.default_rng(seed)
    channels = [1] + [width] * 2 + [2 * width] * 2 + [4 * width] * 3 + [8 * width] * 6
    shapes = [(out, into, 3, 3) for into, out in pairwise(channels)]
    shapes += [(4 * width, 8 * width, 1, 1), (14, 4 * width, 1, 1)]
    arrays = []
    for shape in shapes:
        arrays.append(random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape))
        for low, high in ((-0.2, 0.2), (0.8, 1.2), (-0.2, 0.2), (0.6, 1.5)):
            arrays.append(random.uniform(low, high, shape[0]))
    return [array.astype(np.float32) for array in arrays]


def independent_logits(arrays, images):
    """The network written out in float64, straight from the published arrays."""
    maps, count = torch.from_numpy(np.asarray(images, np.float64)), len(arrays) // 5
    for layer in range(count):
        weight, beta, gamma, mean, inverse = (
            torch.from_numpy(array.astype(np.float64)) for array in arrays[5 * layer : 5 * layer + 5]
        )
        maps = F.conv2d(maps, weight, padding=weight.shape[-1] // 2)
        maps = (maps - mean[:, None, None]) * (gamma * inverse)[:, None, None] + beta[:, None, None]
        if layer < count - 1:
            maps = maps.clamp(min=0)
        if layer in (1, 3, 6, 9):
            maps = F.max_pool2d(maps, 2)
    return maps.mean(dim=(2, 3))


def public_layouts(arrays):
    """The same weights as the two public ports save them."""
    first, second = {}, {}
    stages = [(0, 0), (0, 1), (1, 0), (1, 1), *((stage, place) for stage in (2, 3, 4) for place in (0, 1, 2))]
    flat = [0, 1, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15, 16]
    for layer in range(15):
        weight, beta, gamma, mean, inverse = arrays[5 * layer : 5 * layer + 5]
        norm = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": inverse**-2.0 - 1e-4}
        if layer < 13:
            names = (f"features.{stages[layer][0]}.{stages[layer][1]}.", f"_features.{flat[layer]}.")
            parts = ("0", "1")
        else:
            names, parts = ("adaption.", "_adaptation."), ("0", "1") if layer == 13 else ("3", "4")
        for state, name in zip((first, second), names, strict=True):
            state[f"{name}{parts[0]}.weight"] = torch.from_numpy(weight)
            state |= {f"{name}{parts[1]}.{key}": torch.from_numpy(np.float32(value)) for key, value in norm.items()}
    return first, second


@pytest.fixture(scope="module")
def arrays():
    return lasagne_arrays(16)


@pytest.mark.slow
@pytest.mark.parametrize("width", [16, 32, 64])
def test_the_width_follows_from_the_weights(width):
    network = make_sononet({f"arr_{n}": torch.from_numpy(a) for n, a in enumerate(lasagne_arrays(width))})
    assert network.num_features == 8 * width and not network.training
    with torch.no_grad():
        assert network.features(torch.zeros(1, 1, 224, 288)).shape == (1, 8 * width, 14, 18)


def test_logits_are_those_of_an_independent_evaluation_whatever_the_layout(arrays):
    images = np.random.default_rng(1).normal(size=(2, 1, 96, 128)).astype(np.float32)  # no standardising needed
    expected = independent_logits(arrays, images)
    layouts = [{f"arr_{n}": torch.from_numpy(a) for n, a in enumerate(arrays)}, *public_layouts(arrays)]
    with torch.no_grad():
        found = [make_sononet(state)(torch.from_numpy(images)) for state in layouts]
    for logits in found:
        torch.testing.assert_close(logits.double(), expected, rtol=0, atol=1e-4)
    assert torch.equal(found[1], found[2])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-5)


def test_every_file_format_gives_the_same_weights(arrays, tmp_path):
    from safetensors.torch import save_file

    first, second = public_layouts(arrays)
    np.savez(tmp_path / "SonoNet16.npz", *arrays)
    torch.save(first, tmp_path / "new.pth")
    torch.save({"state_dict": {f"module.{key}": value for key, value in second.items()}}, tmp_path / "nested.tar")
    torch.save(first, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(second, tmp_path / "plain.safetensors")
    images = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = [make_sononet(read_weights(file))(images) for file in sorted(tmp_path.iterdir())]
    assert len(found) == 5
    for logits in found[1:]:
        torch.testing.assert_close(logits, found[0], rtol=0, atol=1e-5)


def test_weights_of_another_network_raise(arrays):
    state = {f"arr_{n}": torch.from_numpy(a) for n, a in enumerate(arrays)}
    with pytest.raises(DataError, match="expected 75 arrays 'arr_0' to 'arr_74', got 74"):
        make_sononet({name: value for name, value in state.items() if name != "arr_9"})
    with pytest.raises(DataError, match=r"features\.0\.0\.0\.weight' and 74 others are missing; got conv1\.weight"):
        make_sononet({"conv1.weight": torch.zeros(3)})
    bent = dict(public_layouts(arrays)[0])
    bent["features.2.1.0.weight"] = torch.zeros(5, 5, 3, 3)
    with pytest.raises(DataError, match=r"'features\.2\.1\.0\.weight' expected shape \[64, 64, 3, 3\], got \[5, 5,"):
        make_sononet(bent)


def test_images_are_resized_to_height_224_and_standardised_each():
    gray = torch.rand(3, 1, 300, 500) * torch.tensor([1.0, 9.0, 0.0]).view(3, 1, 1, 1) + 4
    images = sononet_images(gray)
    assert images.shape == (3, 1, 224, 288)
    torch.testing.assert_close(images[:2].mean(dim=(1, 2, 3)), torch.zeros(2), atol=0.02, rtol=0)
    torch.testing.assert_close(images[:2].std(dim=(1, 2, 3), correction=0), torch.full((2,), 255.0))
    assert torch.equal(images[2], torch.zeros(1, 224, 288))


def test_the_encoder_standardises_its_input(arrays):
    torch.manual_seed(0)
    network = make_sononet({f"arr_{n}": torch.from_numpy(a) for n, a in enumerate(arrays)})
    encoder = SonoNetEncoder(16, 64, 96).eval()
    encoder.features.load_state_dict(network.features.state_dict())
    frames = torch.rand(2, 1, 64, 96)
    with torch.no_grad():
        expected = network.features(standardised(frames))
        torch.testing.assert_close(encoder.forward_features(3 * frames - 1), expected, rtol=1e-3, atol=1e-3)
        assert encoder(torch.rand(2, 1, 50, 50)).shape == (2, encoder.num_features)
        scripted = torch.jit.script(encoder)
        torch.testing.assert_close(scripted(frames), encoder(frames))


def test_classes_equal_the_papers():
    from usvs.archive.labels import STANDARD_PLANES

    assert sorted(SONONET_CLASSES) == sorted(STANDARD_PLANES) and SONONET_CLASSES != STANDARD_PLANES
    assert SONONET_CLASSES[:2] == ("3VT", "4CH") and SONONET_CLASSES[4:6] == ("brain_tc", "brain_tv")


@pytest.mark.shared
def test_the_published_weights_equal_an_independent_evaluation(shared_data):
    file = shared_data / "SonoNet16.npz"
    with np.load(file) as stored:
        arrays = [stored[f"arr_{number}"] for number in range(75)]
    network = make_sononet(read_weights(file))
    images = 255 * np.random.default_rng(2).normal(size=(1, 1, 224, 288)).astype(np.float32)
    ports = [make_sononet(state) for state in public_layouts(arrays)]
    with torch.no_grad():
        expected = independent_logits(arrays, images)
        for net in (network, *ports):
            torch.testing.assert_close(net(torch.from_numpy(images)).double(), expected, rtol=0, atol=1e-4)
    assert isinstance(network, SonoNet) and isinstance(network.adaption[1], nn.BatchNorm2d)
    assert set(sononet_state(read_weights(file))) <= set(network.state_dict())
