"""The straightforward implementation that training is timed against computes what usvs computes.

Without this, a change of the quick profile leaves the benchmark broken or comparing two different things.
"""

import importlib.util

import pytest
import torch
from torch import Tensor, nn

from usvs.tasks.pretraining.module import PretrainModel

if importlib.util.find_spec("torchaudio") is None:
    pytest.skip("torchaudio is not installed, which the straightforward implementation uses", allow_module_level=True)

from benchmarks.bench_training import settings_of
from benchmarks.peers.straightforward import StraightforwardModel

CLIPS = 4


class AsGiven(nn.Module):
    """Takes spectrograms for the waveforms that they would be made of."""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, pieces: Tensor) -> Tensor:
        return pieces.view(-1, 1, *self.shape)


def test_the_losses_of_the_quick_network_are_equal():
    torch.manual_seed(0)
    settings = settings_of("quick", CLIPS, "float32")
    spectrogram, pixels, groups = settings.spectrogram, settings.model.frame_pixels, settings.clips.groups_per_clip
    shape = (spectrogram.bands // spectrogram.pool, spectrogram.frames // spectrogram.pool)
    model, peer = PretrainModel(settings), StraightforwardModel(settings)
    model.spectrogram, peer.streams = AsGiven(shape), model.streams
    model.eval()  # batch statistics differ, since the other runs every pair on its own
    peer.eval()
    frames, order = torch.randn(CLIPS, groups, 1, pixels, pixels), torch.randn(CLIPS, 4, 1, pixels, pixels)
    speech, negative = torch.randn(2, CLIPS, groups, 1, *shape).unbind()
    valid, classes = torch.tensor([True, False, True, True]), torch.tensor([3, 0, 11, 7])
    pieces = [part.reshape(CLIPS, groups, -1) for part in (speech, negative)]
    losses = model(frames, order, *pieces, valid, classes, torch.ones(CLIPS, dtype=torch.bool))
    assert min(losses.correspondence, losses.contrastive, losses.order) > 0
    torch.testing.assert_close(peer(frames, order, speech, negative, valid, classes), losses.total)
