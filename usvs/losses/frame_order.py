"""Frame order loss: in which of twelve orders four frames are shown (section 2.3).

This file holds scripted functions: no postponed annotations, no keyword-only arguments with defaults.
"""

from torch import Tensor
from torch.nn import functional as F


def order_loss(
    logits: Tensor,  # [B, 12]
    classes: Tensor,  # [B]
    global_clips: int = -1,
) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy over twelve orders, and accuracy.

    At chance they are ln 12 and 1/12. Without clips both are 0, and so are the gradients.

    Args:
        logits: [B, 12].
        classes: [B] int64, rows of `usvs.data.order_sampling.ORDER_CLASSES`.
        global_clips: number of clips of the global batch, whose mean the results are this part's contribution to; -1:
            B, these clips are all.

    Returns:
        Loss and accuracy, scalars.
    """
    count = max(logits.size(0) if global_clips < 0 else global_clips, 1)
    loss = F.cross_entropy(logits, classes, reduction="sum") / count
    return loss, (logits.detach().argmax(dim=1) == classes).sum() / count
