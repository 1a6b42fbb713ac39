"""In which order were four frames seen (section 2.3)?

This file holds scripted functions: no postponed annotations, no keyword-only arguments with defaults.
"""

from torch import Tensor
from torch.nn import functional as F


def order_loss(
    logits: Tensor,  # [B, 12]
    classes: Tensor,  # [B]
    whole: int = -1,
) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy over the twelve orders and the share told rightly.

    Chance is ln 12 and a twelfth. Without clips both are 0, and so are the gradients.

    Args:
        logits: [B, 12].
        classes: [B] int64, rows of `usvs.data.order_sampling.ORDER_CLASSES`.
        whole: clips of the batch that these are part of, whose mean this is a share of; -1: they are all of it.
    """
    count = max(logits.size(0) if whole < 0 else whole, 1)
    loss = F.cross_entropy(logits, classes, reduction="sum") / count
    return loss, (logits.detach().argmax(dim=1) == classes).sum() / count
