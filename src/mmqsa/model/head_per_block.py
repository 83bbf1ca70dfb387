"""A head per block of the backbone, as MUFASA has it, in place of several heads on all blocks."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmqsa.model.encoder import PatchEncoder
from mmqsa.model.slot_attention import SlotAttention


class HeadPerBlock(nn.Module):
    """Head h reads block h alone, through an encoder and a slot attention of its own.

    Features (B, N, H D) are those of H blocks beside each other, as ``backbone.combine:
    concatenate`` caches them. It is called as a SlotAttention of H heads is, and its slots go to
    the same decoder, which reconstructs all blocks.

    >>> from mmqsa.model.encoder import PatchEncoder
    >>> from mmqsa.model.slot_attention import SlotAttention
    >>> heads = HeadPerBlock(2, lambda: (PatchEncoder(8, 8), SlotAttention(8, 16, 32)))
    >>> slots, attention = heads(torch.randn(4, 25, 16), torch.randn(2, 4, 3, 16))
    >>> slots.shape, attention.shape
    (torch.Size([4, 2, 3, 16]), torch.Size([4, 2, 3, 25]))
    """

    def __init__(self, num_blocks: int, make: Callable[[], tuple[PatchEncoder, SlotAttention]]):
        super().__init__()
        made = [make() for _ in range(num_blocks)]
        self.encoders = nn.ModuleList(encoder for encoder, _ in made)
        self.attentions = nn.ModuleList(attention for _, attention in made)

    def start_as_clustering(self) -> None:
        """Set every head to soft k-means on its block; see SlotAttention."""
        for encoder, attention in zip(self.encoders, self.attentions, strict=True):
            assert isinstance(encoder, PatchEncoder) and isinstance(attention, SlotAttention)
            encoder.start_as_identity()
            attention.start_as_clustering()

    def forward(
        self,
        features: Tensor,
        noise: Tensor,
        heads: Sequence[int] | None = None,
        iterations: int | None = None,
        copies: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Features (B, N, H D), slot noise of ``heads`` -> slots and attention of these heads."""
        blocks = features.chunk(len(self.encoders), dim=-1)
        selected = range(len(blocks)) if heads is None else heads
        per_head = [
            self.attentions[head](
                self.encoders[head](blocks[head]),
                head_noise[None],
                iterations=iterations,
                copies=copies,
            )
            for head, head_noise in zip(selected, noise, strict=True)
        ]
        slots, attention = zip(*per_head, strict=True)
        return torch.cat(slots, dim=1), torch.cat(attention, dim=1)
