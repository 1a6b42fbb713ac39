"""Correspondence loss: whether a frame and a piece of speech belong together (section 2.1, Eq. 1).

This file holds scripted functions: no postponed annotations, no keyword-only arguments with defaults.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def correspondence_loss(
    positive_logits: Tensor,  # [n, 2]
    negative_logits: Tensor,  # [n, 2]
    global_pairs: int = -1,
) -> tuple[Tensor, Tensor]:
    """Return Eq. 1, the mean cross-entropy over n positive (label 1) and n hard negative pairs (label 0), and accuracy.

    At chance they are ln 2 and 1/2. Without pairs both are 0, and so are the gradients.

    Args:
        positive_logits: [n, 2] of frames with their own speech.
        negative_logits: [n, 2] of the same frames with speech from a nearby clip.
        global_pairs: number of pairs of the global batch, whose mean the results are this part's contribution to; -1:
            n, these pairs are all.

    Returns:
        Loss and accuracy, scalars.
    """
    logits = torch.cat((positive_logits, negative_logits))
    labels = torch.zeros(logits.size(0), dtype=torch.int64, device=logits.device)
    labels[: positive_logits.size(0)] = 1
    count = max(logits.size(0) if global_pairs < 0 else 2 * global_pairs, 1)
    loss = F.cross_entropy(logits, labels, reduction="sum") / count
    return loss, (logits.detach().argmax(dim=1) == labels).sum() / count
