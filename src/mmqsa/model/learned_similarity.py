"""A similarity of slots that is learned, instead of the cosine between them as they are.

The heads of a trained run stay as they are. A linear map of slots, the identity at the start, is
trained so that heads merged by it reconstruct the features well. An assignment has no gradient, so
in training slots are shared out softly, by Sinkhorn's algorithm (Mena et al., ICLR 2018).
"""

import torch
from torch import Tensor, nn

from mmqsa.model.matching import cosine


class LearnedSimilarity(nn.Module):
    """The cosine between linearly projected slots."""

    def __init__(self, width: int):
        super().__init__()
        self.projection = nn.Parameter(torch.eye(width))

    def soft_merge(
        self, slots: Tensor, reference: Tensor, temperature: float, iterations: int
    ) -> Tensor:
        """Slots of all heads (B, H, K, D_slot), reference head (B,) -> soft mean over heads (B, K, D_slot).

        At temperature 0 it would be the merge of an exact assignment.
        """
        chosen = slots[torch.arange(len(slots), device=slots.device), reference][:, None]
        alike = cosine(chosen @ self.projection.T, slots @ self.projection.T)  # (B, H, K, K)
        return (sinkhorn(alike / temperature, iterations) @ slots).mean(dim=1)


def sinkhorn(logits: Tensor, iterations: int) -> Tensor:
    """Logits (..., K, K) -> near doubly stochastic (..., K, K); columns sum to 1 exactly last."""
    for _ in range(iterations):
        logits = logits - logits.logsumexp(dim=-1, keepdim=True)
        logits = logits - logits.logsumexp(dim=-2, keepdim=True)
    return logits.exp()
