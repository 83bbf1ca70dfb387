"""A learned similarity of slots, in place of the plain cosine.

The trained heads stay as they are. A linear map of slots, the identity at the start, is trained so
that heads merged by it reconstruct the features well. An assignment has no gradient, so training
shares slots out softly, by Sinkhorn's algorithm (Mena et al., ICLR 2018).
"""

import torch
from torch import Tensor, nn

from mmqsa.model.matching import cosine


class LearnedSimilarity(nn.Module):
    """The cosine between linearly projected slots.

    >>> slots = torch.eye(3)[None, None].repeat(1, 2, 1, 1)  # B = 1, H = 2, K = 3, D_slot = 3
    >>> slots[0, 1] = slots[0, 1, [2, 0, 1]]
    >>> similarity = LearnedSimilarity(slot_dim=3)
    >>> merged = similarity.soft_merge(slots, torch.tensor([0]), temperature=0.05, iterations=10)
    >>> merged.detach().round(decimals=3).abs()
    tensor([[[1., 0., 0.],
             [0., 1., 0.],
             [0., 0., 1.]]])
    """

    def __init__(self, slot_dim: int):
        super().__init__()
        self.projection = nn.Parameter(torch.eye(slot_dim))

    def soft_merge(
        self, slots: Tensor, reference: Tensor, temperature: float, iterations: int
    ) -> Tensor:
        """Slots (B, H, K, D_slot), reference head (B,) -> soft mean over heads (B, K, D_slot).

        Temperature 0 is the limit of an exact assignment.
        """
        references = slots[torch.arange(len(slots), device=slots.device), reference][:, None]
        similarity = cosine(references @ self.projection.T, slots @ self.projection.T)
        return (sinkhorn(similarity / temperature, iterations) @ slots).mean(dim=1)


def sinkhorn(logits: Tensor, iterations: int) -> Tensor:
    """Logits (..., K, K) -> nearly doubly stochastic (..., K, K); columns sum to 1 exactly.

    >>> sinkhorn(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), iterations=5).round(decimals=3)
    tensor([[1., 0.],
            [0., 1.]])
    """
    for _ in range(iterations):
        logits = logits - logits.logsumexp(dim=-1, keepdim=True)
        logits = logits - logits.logsumexp(dim=-2, keepdim=True)
    return logits.exp()
