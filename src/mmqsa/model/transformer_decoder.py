"""Autoregressive transformer decoder over patches, as in DINOSAUR, in SPOT's orders."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmqsa.model.decoder import IMAGES_AT_ONCE


def patch_orders(num_patches: int, count: int) -> Tensor:
    """The first ``count`` of 9 orders of a square's N patches -> (count, N) indices.

    Row by row from the upper left, then along rows or columns from each corner, and from the
    centre outwards in a spiral (SPOT, section 3.2). Raises ValueError where N is no square.

    >>> patch_orders(4, 3)
    tensor([[0, 1, 2, 3],
            [0, 2, 1, 3],
            [1, 0, 3, 2]])
    """
    side = math.isqrt(num_patches)
    if side**2 != num_patches:
        raise ValueError(f"{num_patches} patches are no square")
    grid = torch.arange(num_patches).view(side, side)
    orders = []
    for flipped in ((), (1,), (0,), (0, 1)):
        corner = grid.flip(flipped)
        orders += [corner.flatten(), corner.T.flatten()]
    spiral = []
    while grid.numel():  # from the outside in: the upper row goes, the rest turns
        spiral.append(grid[0])
        grid = grid[1:].rot90()
    orders.append(torch.cat(spiral).flip(0))
    return torch.stack(orders[:count])


class Block(nn.Module):
    """Attention to earlier patches, attention to slots, and an MLP, each added to what it reads.

    Pre-norm; the last linear layer of each branch starts smaller by sqrt(3 layers), so that the sum
    of all branches starts as large as one.
    """

    def __init__(self, dim: int, heads: int, layers: int):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.to_self = nn.Linear(dim, 3 * dim, bias=False)
        self.from_self = nn.Linear(dim, dim, bias=False)
        self.to_queries = nn.Linear(dim, dim, bias=False)
        self.to_slots = nn.Linear(dim, 2 * dim, bias=False)
        self.from_slots = nn.Linear(dim, dim, bias=False)
        self.to_mlp = nn.Linear(dim, 4 * dim)
        self.from_mlp = nn.Linear(4 * dim, dim)
        with torch.no_grad():
            for last in (self.from_self, self.from_slots, self.from_mlp):
                last.weight.div_(math.sqrt(3 * layers))

    def forward(self, hidden: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden (B, N, C), slots (B, K, C) -> hidden, attention (B, N, K), 1 in sum over K."""
        query, key, value = self._split(self.to_self(self.norms[0](hidden)), 3)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.from_self(attended.transpose(1, 2).flatten(2))
        (query,) = self._split(self.to_queries(self.norms[1](hidden)), 1)
        key, value = self._split(self.to_slots(slots), 2)
        logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        attention = logits.float().softmax(dim=-1)
        attended = attention.to(value.dtype) @ value
        hidden = hidden + self.from_slots(attended.transpose(1, 2).flatten(2))
        hidden = hidden + self.from_mlp(F.relu(self.to_mlp(self.norms[2](hidden))))
        return hidden, attention.mean(dim=1)

    def _split(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(B, L, parts * C) -> that many (B, heads, L, C / heads)."""
        split: Tensor = projected.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return split.unbind()


class TransformerDecoder(nn.Module):
    """Each patch is predicted from the slots and from the patches before it in an order.

    With an order o of the patches and a learned start s_o, the token of step t is

        W features_o(t-1) + position_o(t),    and s_o + position_o(0) for the first

    so it knows which patch it predicts, but not that patch. Masks are the last block's attention
    to slots, averaged over its heads. DINOSAUR has one order; with several, a training step draws
    one (SPOT), and masks are those of the first.

    >>> _ = torch.manual_seed(0)
    >>> decoder = TransformerDecoder(25, 16, hidden_dim=32, layers=2, feature_dim=8, heads=4)
    >>> reconstruction, masks = decoder(torch.randn(4, 3, 16), torch.randn(4, 25, 8))
    >>> reconstruction.shape, masks.shape, masks.sum(dim=1).allclose(torch.ones(4, 25))
    (torch.Size([4, 25, 8]), torch.Size([4, 3, 25]), True)
    """

    orders: Tensor

    def __init__(
        self,
        num_patches: int,
        slot_dim: int,
        hidden_dim: int,
        layers: int,
        feature_dim: int,
        heads: int,
        orders: int = 1,
    ):
        super().__init__()
        self.register_buffer("orders", patch_orders(num_patches, orders), persistent=False)
        self.start = nn.Parameter(0.02 * torch.randn(orders, hidden_dim))
        self.position = nn.Parameter(0.02 * torch.randn(num_patches, hidden_dim))
        self.from_features = nn.Linear(feature_dim, hidden_dim)
        self.from_slots = nn.Sequential(
            nn.Linear(slot_dim, hidden_dim, bias=False), nn.LayerNorm(hidden_dim)
        )
        self.blocks = nn.ModuleList(Block(hidden_dim, heads, layers) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_dim)
        self.to_features = nn.Linear(hidden_dim, feature_dim)

    def draw(self, generator: torch.Generator) -> Tensor | None:
        """The order of a training step: its index (1,); None where there is one."""
        if len(self.orders) == 1:
            return None
        return torch.randint(len(self.orders), (1,), generator=generator, device=generator.device)

    def compared(self, features: Tensor, drawn: Tensor | None) -> Tensor:
        """The part of features (B, N, D) that is decoded: all of it."""
        return features

    def forward(
        self, slots: Tensor, features: Tensor, drawn: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Slots (B, K, D_slot), features (B, N, D) -> reconstruction (B, N, D), masks (B, K, N).

        There may be several sets of slots for each image's features, one after the other.
        ``drawn`` (1,) is the index of the order, by default of the first.
        """
        features = features.repeat_interleave(len(slots) // len(features), dim=0)
        index = self.orders.new_zeros(1) if drawn is None else drawn  # no wait for the device
        (order,) = self.orders[index]
        known = self.from_features(features[:, order[:-1]])
        start = self.start[index].to(known.dtype).expand(len(slots), 1, -1)
        hidden = torch.cat([start, known], dim=1) + self.position[order]
        slots = self.from_slots(slots)
        for block in self.blocks:
            hidden, attention = block(hidden, slots)
        decoded = self.to_features(self.norm(hidden))
        back = order.argsort()
        return decoded[:, back], attention[:, back].transpose(1, 2)

    def masks(self, slots: Tensor, features: Tensor) -> Tensor:
        """As ``forward``, masks (B, K, N) alone, a few images at a time to bound the memory."""
        each = len(slots) // len(features)
        batches = zip(
            slots.split(each * IMAGES_AT_ONCE), features.split(IMAGES_AT_ONCE), strict=True
        )
        return torch.cat([self(*batch)[1] for batch in batches])
