"""What pretraining calls: the interface that a loss of one's own has to have.

Example: InfoNCE from video to speech, without hard negatives and without the order task::

    class Losses(NamedTuple):
        total: torch.Tensor

    class InfoNCE(torch.nn.Module):
        uses_order = False

        def forward(self, positive_logits, negative_logits, video, positive, negative, pair_valid, order_logits,
                    order_class, global_batch=None):
            valid = pair_valid.to(video.device)
            similarity = video[valid] @ positive[valid].T
            return Losses(F.cross_entropy(similarity, torch.arange(len(similarity), device=video.device)))

It works in one process and without micro-batches. With several processes, or with micro-batches, `global_batch` is
given and the result has to be this part's contribution to the loss of the global batch, as `JointObjective`'s is. With
``run.compile=torchscript`` the module has to be scriptable; set ``run.compile=eager`` otherwise.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from usvs.losses.joint import GlobalBatch


class LossResult(Protocol):
    """What a loss returns: a NamedTuple of scalar tensors. All fields are logged under their names.

    Attributes:
        total: the loss that is minimised; the only field whose gradient is used.
    """

    @property
    def total(self) -> Tensor:
        """The loss that is minimised."""
        ...

    def _asdict(self) -> dict[str, Any]: ...


@runtime_checkable
class PretrainingLoss(Protocol):
    """A `torch.nn.Module` with this `forward` can be the loss of pretraining.

    Three attributes, all optional, say which inputs it uses, so that what is not used is not computed:
    `uses_pairs` (the first six inputs), `uses_order` (the last two), and `uses_global_pairs` (it compares the
    embeddings of a pair with those of other pairs, so with several processes they are gathered). `loss_requirements`
    reads them; an absent one counts as True.
    """

    def forward(
        self,
        positive_logits: Tensor,
        negative_logits: Tensor,
        video: Tensor,
        positive: Tensor,
        negative: Tensor,
        pair_valid: Tensor,
        order_logits: Tensor,
        order_class: Tensor,
        global_batch: GlobalBatch | None = None,
    ) -> LossResult:
        """Return the losses of a batch of N pairs and B clips with order frames; N and B may be 0.

        Args:
            positive_logits: [N, 2] correspondence logits (class 1 = correspond) of frames and their own speech.
            negative_logits: [N, 2] of the same frames and their hard negatives.
            video: [N, d] embeddings of the frames, not normalised.
            positive: [N, d] embeddings of their speech.
            negative: [N, d] embeddings of their hard negatives.
            pair_valid: [N] bool, on the CPU: pairs that count (high affinity, section 2.3).
            order_logits: [B, 12] of the order task.
            order_class: [B] int64, the true classes.
            global_batch: the batch that these rows are a part of, where other processes or micro-batches have the
                rest; None: these rows are the complete batch.
        """
        ...


class LossRequirements(NamedTuple):
    """Which inputs a loss uses.

    Attributes:
        pairs: frames with their speech and hard negatives.
        order: shuffled frames and their order.
        global_pairs: the embeddings of all pairs of the global batch.
    """

    pairs: bool
    order: bool
    global_pairs: bool


def loss_requirements(loss: object) -> LossRequirements:
    """Return which inputs a `PretrainingLoss` uses, from its attributes; an absent one counts as True."""
    return LossRequirements(
        bool(getattr(loss, "uses_pairs", True)),
        bool(getattr(loss, "uses_order", True)),
        bool(getattr(loss, "uses_global_pairs", True)),
    )
