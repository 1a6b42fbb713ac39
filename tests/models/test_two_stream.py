import warnings

import pytest
import torch

from tests.support.tiny_models import tiny_encoder, tiny_model
from usvs.errors import ConfigError
from usvs.models.two_stream import TwoStream

SETTINGS = tiny_model(tiny_encoder(base_width=32, se_ratio=1 / 8), correspondence_hidden=16, order_hidden=16)


def _inputs(frames=4, clips=3, speech=6):
    generator = torch.Generator().manual_seed(7)
    return (
        torch.randn(frames, 1, 32, 32, generator=generator),
        torch.randn(clips, 4, 1, 32, 32, generator=generator),
        torch.randn(speech, 1, 32, 32, generator=generator),
    )


def _script(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(model)


def _weighted_sum(out):
    """A scalar whose gradient differs between entries, so that equal gradients are significant."""
    return sum((part * torch.linspace(-1, 1, part.numel()).view_as(part)).sum() for part in out)


def test_each_encoder_runs_once():
    torch.manual_seed(0)
    model = TwoStream(SETTINGS).eval()
    frames, order_frames, speech = _inputs()
    calls = []
    for encoder in (model.video, model.speech):
        encoder.conv1.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    out = model(frames, order_frames, speech)
    assert calls == [4 + 3 * 4, 6]
    torch.testing.assert_close(out.video_features, model.video(frames))
    torch.testing.assert_close(out.video_embeddings, model.project_video(out.video_features))
    torch.testing.assert_close(out.speech_embeddings, model.project_speech(model.speech(speech)))
    maps = model.video.forward_features(order_frames.flatten(0, 1))
    torch.testing.assert_close(out.order_logits, model.order(maps.unflatten(0, (3, 4))))


def test_projection_is_shared_or_not():
    features = torch.randn(2, 256)
    shared = TwoStream(SETTINGS)
    assert torch.equal(shared.project_video(features), shared.project_speech(features))
    own = TwoStream(SETTINGS.model_copy(update={"shared_projection": False}))
    assert not torch.equal(own.project_video(features), own.project_speech(features))
    head = sum(parameter.numel() for parameter in own.project_speech.parameters())
    count = sum(parameter.numel() for parameter in own.parameters())
    assert count == sum(parameter.numel() for parameter in shared.parameters()) + head


def test_one_projection_for_streams_of_different_width_raises():
    wide = SETTINGS.model_copy(update={"speech": SETTINGS.speech.model_copy(update={"stem_width": 16})})
    with pytest.raises(ConfigError, match=r"shared_projection.*256 video and 512 speech"):
        TwoStream(wide)
    model = TwoStream(wide.model_copy(update={"shared_projection": False}))
    assert model(*_inputs()).speech_features.shape == (6, 512)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("empty", [(0, 3, 0), (4, 0, 6), (0, 0, 0)])
def test_empty_parts_stay_empty_and_touch_no_statistics(empty, batch_norm):
    model = TwoStream(SETTINGS.model_copy(update={"projection_batch_norm": batch_norm}))
    frames, clips, speech = empty
    out = model(*_inputs(*empty))
    assert [len(part) for part in out] == [frames, frames, speech, speech, clips]
    assert out.speech_features.shape[1] == 256
    assert out.video_embeddings.shape[1] == out.speech_embeddings.shape[1] == 8
    assert out.order_logits.shape[1] == 12
    assert all(buffer.isfinite().all() for buffer in model.buffers())
    assert model.speech.bn1.num_batches_tracked == (speech > 0)
    assert model.video.bn1.num_batches_tracked == (frames + clips > 0)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_scripted_equals_eager_over_several_runs(shared):
    torch.manual_seed(0)
    normalised = {"projection_batch_norm": True, "correspondence_batch_norm": True}
    model = TwoStream(SETTINGS.model_copy(update={"shared_projection": shared, **normalised}))
    scripted = _script(model)
    inputs = _inputs()
    assert len(list(scripted.parameters())) == len(list(model.parameters()))
    for _ in range(3):
        results = []
        for run in (model, scripted):
            model.zero_grad()
            out = run(*inputs)
            _weighted_sum(out).backward()
            results.append(
                (tuple(out), [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
            )
        (eager_out, eager_grad), (script_out, script_grad) = results
        torch.testing.assert_close(script_out, eager_out, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(script_grad, eager_grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_scripted_correspondence_is_callable(batch_norm):
    model = TwoStream(SETTINGS.model_copy(update={"correspondence_batch_norm": batch_norm}))
    video, speech = torch.randn(5, 256), torch.randn(5, 256)
    logits = model.correspondence(video, speech)
    assert logits.shape == (5, 2)
    torch.testing.assert_close(_script(model).correspondence(video, speech), logits)


def test_a_grid_keeps_where_structures_are():
    """Two frames with the same mean map have the same features, and embeddings that differ by their grids."""
    settings = SETTINGS.model_copy(update={"projection_grid": 2, "shared_projection": False})
    model = TwoStream(settings).eval()
    frames = torch.randn(3, 1, 64, 64)
    out = model(frames, torch.zeros(0, 4, 1, 64, 64), torch.zeros(0, 1, 32, 32))
    maps = model.video.forward_features(frames)
    expected = model.project_video(torch.nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1))
    torch.testing.assert_close(out.video_embeddings, expected)
    with pytest.raises(ConfigError, match=r"projection_grid' 2: expected 1 with one projection"):
        TwoStream(settings.model_copy(update={"shared_projection": True}))
