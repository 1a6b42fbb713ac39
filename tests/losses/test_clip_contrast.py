"""The contrast of whole clips: both directions, all pairs of a clip, and within each stream."""

import math

import pytest
import torch
from torch.nn import functional as F

from usvs.errors import ConfigError
from usvs.losses.contrastive import GlobalPairs, batch_contrastive, stream_contrast
from usvs.losses.joint import GlobalBatch, JointObjective
from usvs.losses.settings import ObjectiveSettings

CLIPS, K, T = 5, 3, 0.3
N = CLIPS * K
SETTINGS = ObjectiveSettings(
    correspondence_weight=0, order_weight=0, stream_weight=0.5, symmetric=True, form="ntxent", candidates="speech",
    normalise=True, temperature=T,
)  # fmt: skip


def embeddings(seed: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(N, 8, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)]


def plain(video, positive, negative):
    """The four losses, written out over all pairs."""
    v, s, h = (F.normalize(part, dim=1) for part in (video, positive, negative))
    clip = torch.arange(N) // K
    own = (clip[:, None] == clip[None, :]).double() / K
    forward = -(torch.cat((own, torch.zeros(N, N)), 1) * F.log_softmax(v @ torch.cat((s, h)).T / T, 1)).sum(1).mean()
    reverse = -(own * F.log_softmax(s @ v.T / T, 1)).sum(1).mean()
    frames, speech = [], []
    for k in range(K):
        other, target = (k + 1) % K, torch.arange(CLIPS)
        frames.append(F.cross_entropy(v[k::K] @ v[other::K].T / T, target, reduction="sum"))
        speech.append(F.cross_entropy(s[k::K] @ torch.cat((s[other::K], h)).T / T, target, reduction="sum"))
    return forward, reverse, sum(frames) / N, sum(speech) / N


def inputs(video, positive, negative, rows=slice(None)):
    valid = torch.ones(N, dtype=torch.bool)[rows]
    logits = video.new_zeros(len(valid), 2)
    none = video.new_zeros(0, 12), torch.zeros(0, dtype=torch.int64)
    return (logits, logits, video[rows], positive[rows], negative[rows], valid, *none)


@pytest.mark.parametrize("scripted", [False, True])
def test_the_terms_are_those_written_out_and_so_are_their_gradients(scripted):
    objective = JointObjective(SETTINGS, K)
    if scripted:
        objective = torch.jit.script(objective)
    parts = embeddings()
    losses = objective(*inputs(*parts))
    forward, reverse, frames, speech = plain(*parts)
    total = 0.5 * (forward + reverse) + 0.5 * (frames + speech)
    for got, expected in (
        (losses.contrastive, forward), (losses.reverse, reverse), (losses.stream_frames, frames),
        (losses.stream_speech, speech), (losses.total, total),
    ):  # fmt: skip
        torch.testing.assert_close(got.double(), expected)
    assert losses.chance_reverse.item() == pytest.approx(math.log(N))
    assert losses.chance_stream_frames.item() == pytest.approx(math.log(CLIPS))
    assert losses.chance_stream_speech.item() == pytest.approx(math.log(CLIPS + N))
    got = torch.autograd.grad(losses.total, parts, retain_graph=True)
    for mine, expected in zip(got, torch.autograd.grad(total, parts), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-7)


def test_at_equal_similarities_every_term_is_at_chance():
    same = [torch.ones(N, 8) for _ in range(3)]
    losses = JointObjective(SETTINGS, K)(*inputs(*same))
    for value, chance in (
        (losses.contrastive, losses.chance_contrastive), (losses.reverse, losses.chance_reverse),
        (losses.stream_frames, losses.chance_stream_frames), (losses.stream_speech, losses.chance_stream_speech),
    ):  # fmt: skip
        torch.testing.assert_close(value, chance)


def test_the_parts_of_a_batch_add_up_to_the_batch():
    parts = embeddings()
    objective = JointObjective(SETTINGS, K)
    complete = objective(*inputs(*parts))
    pieces = []
    for rows in (slice(0, 2 * K), slice(2 * K, N)):
        pairs = GlobalPairs(*parts, rows.start)
        pieces.append(objective(*inputs(*parts, rows), GlobalBatch(pairs, N, 0)))
    for name in ("total", "contrastive", "reverse", "stream_frames", "stream_speech", "chance_stream_speech"):
        added = sum(getattr(piece, name) for piece in pieces)
        torch.testing.assert_close(added.double(), getattr(complete, name).double(), msg=name, rtol=1e-5, atol=1e-6)


def test_without_pairs_the_terms_are_zero_and_so_are_the_gradients():
    empty = [torch.zeros(0, 8, requires_grad=True) for _ in range(3)]
    terms = stream_contrast(empty[0], empty[1], K, T, GlobalPairs(*empty, 0))
    both = batch_contrastive(*empty, True, T, 1.0, "ntxent", "speech", None, True, K)
    assert [value.item() for value in (terms.frames, terms.speech, both.loss, both.reverse)] == [0] * 4


def test_one_pair_a_clip_has_no_other_frame_to_compare_with():
    with pytest.raises(ConfigError, match=r"groups_per_clip of at least 2, got 1"):
        JointObjective(SETTINGS, 1)
