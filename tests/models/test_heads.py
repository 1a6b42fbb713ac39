import pytest
import torch

from usvs.models.heads import FRAME_PAIRS, BatchDropout, CorrespondenceHead, OrderHead, PlaneHead, ProjectionHead


def test_projection_is_one_hidden_layer():
    head = ProjectionHead(6, 5, 3, batch_norm=False)
    features = torch.randn(4, 6)
    hidden = (features @ head.fc1.weight.T + head.fc1.bias).relu()
    torch.testing.assert_close(head(features), hidden @ head.fc2.weight.T + head.fc2.bias)
    assert len(head.state_dict()) == 4


def test_batch_norm_spreads_embeddings_of_nearly_parallel_features():
    torch.manual_seed(0)
    features = 1 + 0.1 * torch.randn(64, 32).abs()  # positive, as means of ReLU outputs

    def alikeness(head):
        unit = torch.nn.functional.normalize(head(features), dim=1)
        return (unit @ unit.T).mean()

    assert alikeness(ProjectionHead(32, 32, 16, batch_norm=False)) > 0.9
    assert alikeness(ProjectionHead(32, 32, 16, batch_norm=True)) < 0.1


def test_the_last_batch_norm_has_no_scale_by_which_embeddings_would_shrink():
    torch.manual_seed(0)
    head = ProjectionHead(8, 8, 4, batch_norm=True)
    assert not list(head.bn2.parameters()) and len(list(head.bn1.parameters())) == 2
    torch.testing.assert_close(head(torch.randn(256, 8)).std(dim=0, correction=0), torch.ones(4), rtol=0, atol=1e-3)


def _train_on_exclusive_or(hidden: int) -> float:
    """Exclusive or: pairs correspond if both signs are equal, which neither input decides alone."""
    torch.manual_seed(0)
    head = CorrespondenceHead(1, 1, hidden)
    video, speech = torch.tensor([[-1.0], [-1.0], [1.0], [1.0]]), torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])
    label = torch.tensor([1, 0, 0, 1])
    optimiser = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(head(video, speech), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.item()


def test_a_linear_classifier_of_a_concatenation_cannot_learn_pairs():
    assert _train_on_exclusive_or(hidden=0) == pytest.approx(0.6931, abs=1e-3)
    assert _train_on_exclusive_or(hidden=16) < 0.1


def test_normalised_fusion_takes_an_empty_batch_and_keeps_its_statistics():
    head = CorrespondenceHead(3, 2, 4, batch_norm=True)
    assert head(torch.zeros(0, 3), torch.zeros(0, 2)).shape == (0, 2)
    assert head.normalise.num_batches_tracked == 0
    video, speech = torch.randn(8, 3), torch.randn(8, 2)
    logits = head(video, speech)
    assert head.normalise.num_batches_tracked == 1
    # Batch statistics cancel any shift and scale of a feature.
    torch.testing.assert_close(head(100 + 5 * video, speech), logits, rtol=1e-3, atol=1e-3)


def test_order_head_compares_frames_in_opns_pair_order():
    torch.manual_seed(0)
    head = OrderHead(features=3, grid=2, hidden=5, pair_hidden=4, dropout=0.5).eval()
    maps = torch.randn(2, 4, 3, 4, 6)
    frames = [head.fc6(head.pool(maps[:, i]).flatten(1)) for i in range(4)]
    assert FRAME_PAIRS == ((0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (0, 3))
    pairs = [head.fc7(torch.cat((frames[i], frames[j]), dim=1)) for i, j in FRAME_PAIRS]
    torch.testing.assert_close(head(maps), head.classify(torch.cat(pairs, dim=1)))


def test_order_head_depends_on_positions_and_on_the_order():
    torch.manual_seed(0)
    head = OrderHead(features=3, grid=2, hidden=16, pair_hidden=8, dropout=0.0).eval()
    maps = torch.randn(1, 4, 3, 4, 4)
    logits = head(maps)
    assert not torch.allclose(head(maps.flip(-1)), logits)  # the same means at other positions
    assert not torch.allclose(head(maps[:, [1, 0, 2, 3]]), logits)


def test_order_head_shares_its_layers():
    head = OrderHead(features=8, grid=4, hidden=16, pair_hidden=8, dropout=0.5)
    assert tuple(head.fc6[0].weight.shape) == (16, 8 * 16)
    assert tuple(head.fc7[0].weight.shape) == (8, 32)
    assert tuple(head.classify.weight.shape) == (12, 48)
    assert not any("first" in name or "second" in name for name in head.state_dict())


def test_dropout_of_a_clip_is_the_same_in_every_shard():
    dropout = BatchDropout(0.5)

    def drop(here, shown):
        torch.manual_seed(0)
        dropout.global_clips, dropout.clips = 6, torch.tensor(here)
        return dropout(torch.ones(4 * len(shown), 16), torch.tensor(shown)).view(-1, 4, 16)

    complete = drop([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5])
    assert set(complete.unique().tolist()) == {0.0, 2.0} and 0.3 < (complete == 0).float().mean() < 0.7
    assert not torch.equal(complete[1], complete[5])
    assert torch.equal(drop([1, 4, 5], [0, 2]), complete[[1, 5]])
    assert drop([1, 4, 5], []).numel() == 0


def test_order_can_be_learnt():
    """A spot that moves along a line: the order follows from the maps."""
    torch.manual_seed(0)
    from usvs.data.order_sampling import ORDER_CLASSES

    head = OrderHead(features=1, grid=4, hidden=32, pair_hidden=32, dropout=0.0)
    table = torch.from_numpy(ORDER_CLASSES.copy())
    optimiser = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(120):
        classes = torch.randint(12, (64,))
        orders = torch.where(torch.rand(64, 1) < 0.5, table[classes], table[classes].flip(1))
        maps = torch.nn.functional.one_hot(orders, 4).float()[:, :, None, None, :].expand(64, 4, 1, 4, 4)
        loss = torch.nn.functional.cross_entropy(head(maps.contiguous()), classes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3


def test_plane_head_is_linear():
    head = PlaneHead(6, 14)
    features = torch.randn(3, 6)
    torch.testing.assert_close(head(2 * features) - head(features), features @ head.classify.weight.T)
