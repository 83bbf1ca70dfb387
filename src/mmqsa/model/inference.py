"""A trained model at work: all heads, their merge, and the masks of the objects."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from mmqsa.model.discovery import MaskedSlotModel
from mmqsa.model.matching import Matching, align, merge
from mmqsa.model.stacked_heads import StackedHeads
from mmqsa.settings import MaskSource


@dataclass
class HeadOutputs:
    """What all heads found: slots (B, H, K, W) and last attention (B, H, K, P)."""

    slots: Tensor
    attention: Tensor


class Discoverer:
    """Finds the objects of a batch with a model whose weights do not change any more."""

    def __init__(self, model: MaskedSlotModel):
        self.model = model
        self.heads = StackedHeads(model.slot_attention)

    def run_heads(self, keys: Tensor, generator: torch.Generator) -> HeadOutputs:
        """Keys (B, P, D), nothing hidden -> what each of the H heads found."""
        features = self.model.encoder(self.model.standardised(keys))
        return HeadOutputs(*self.heads(features, self.noise(len(keys), generator)))

    def noise(self, batch: int, generator: torch.Generator) -> Tensor:
        """Standard normal slot noise of every head (H, B, K, W)."""
        drawn = self.model.noise(self.model.heads * batch, generator)
        return drawn.unflatten(0, (self.model.heads, batch))

    def discover(
        self,
        found: HeadOutputs,
        reference: Tensor,
        matching: Matching,
        sources: Collection[MaskSource] = ("decoder", "attention"),
    ) -> dict[MaskSource, Tensor]:
        """Merge the heads onto each image's reference head (B,) -> masks (B, K, P) by source.

        ``decoder``: slots are averaged over matched heads and then decoded (paper, section III).
        ``attention``: attention maps are averaged over matched heads. The matching ``none`` is the
        reference head alone. At each patch masks sum to 1 over K.
        """
        if matching == "none":
            rows = torch.arange(len(reference), device=reference.device)
            slots, attention = found.slots[rows, reference], found.attention[rows, reference]
        else:
            order = align(found.slots, reference, matching)
            slots, attention = merge(found.slots, order), merge(found.attention, order)
        masks = {"attention": attention}
        if "decoder" in sources:  # nearly all of the work
            masks["decoder"] = self.model.decoder.alphas(slots)
        return {source: masks[source] for source in sources}
