"""A learned merge of matched slots, in place of their mean: MUFASA's M-Fusion, over heads."""

import torch
from torch import Tensor, nn

from mmqsa.model.matching import reorder


class SlotFusion(nn.Module):
    """A small MLP over the slots that all heads have in one place, added to their mean.

        fused_k = mean_h s_hk + W_2 GELU(W_1 [s_1k; ...; s_Hk])

    It starts as the mean: W_2 is zero. MUFASA fuses the slots of layers and trains all together;
    here the layers are heads, and the run whose heads are fused stays as it is.

    >>> slots = torch.randn(2, 3, 5, 16)
    >>> order = torch.arange(5).expand(2, 3, 5)
    >>> SlotFusion(num_heads=3, slot_dim=16, hidden_dim=32)(slots, order).allclose(slots.mean(1))
    True
    """

    def __init__(self, num_heads: int, slot_dim: int, hidden_dim: int):
        super().__init__()
        self.first = nn.Linear(num_heads * slot_dim, hidden_dim)
        self.last = nn.Linear(hidden_dim, slot_dim)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, slots: Tensor, order: Tensor) -> Tensor:
        """Slots (B, H, K, D_slot) and their order (B, H, K) -> fused slots (B, K, D_slot)."""
        matched = reorder(slots, order)
        beside = matched.transpose(1, 2).flatten(2)  # (B, K, H D_slot), heads in their own order
        change: Tensor = self.last(torch.nn.functional.gelu(self.first(beside)))
        return matched.mean(dim=1) + change
