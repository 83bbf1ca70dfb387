"""A trained model at work: all heads, their merge, and the masks of the objects."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from mmqsa.config.evaluation import MaskSource, MatchingName
from mmqsa.model.masked_slot_model import MaskedSlotModel
from mmqsa.model.matching import align, merge
from mmqsa.model.stacked_heads import StackedHeads


@dataclass
class HeadOutputs:
    """What all heads found: slots (B, H, K, D_slot) and last attention (B, H, K, N).

    ``alphas`` (B, H, K, N) are each head's own slots decoded, from when they are first needed.
    """

    slots: Tensor
    attention: Tensor
    alphas: Tensor | None = None


class Discoverer:
    """Finds the objects of a batch with a model whose weights do not change any more.

    ``slots`` and ``iterations`` may differ from what the model was trained with. ``projection``
    (D_slot, D_slot) is the learned similarity's, which the matching ``learned`` needs.
    """

    def __init__(
        self,
        model: MaskedSlotModel,
        slots: int | None = None,
        iterations: int | None = None,
        projection: Tensor | None = None,
    ):
        self.model, self.projection = model, projection
        self.number = slots or model.number
        self.heads = StackedHeads(model.slot_attention)
        self.heads.iterations = iterations or self.heads.iterations

    def run_heads(self, keys: Tensor, generator: torch.Generator) -> HeadOutputs:
        """Keys (B, N, D), nothing hidden -> what each of the H heads found."""
        return self.run_heads_from(self.noise(len(keys), generator), keys)

    def run_heads_from(self, noise: Tensor, keys: Tensor) -> HeadOutputs:
        """The same from given slot noise (H, B, K, D_slot)."""
        features = self.model.encoder(self.model.standardised(keys))
        return HeadOutputs(*self.heads(features, noise))

    def noise(self, batch: int, generator: torch.Generator) -> Tensor:
        """Standard normal slot noise of every head (H, B, K, D_slot)."""
        drawn = self.model.noise(self.model.heads * batch, generator, self.number)
        return drawn.unflatten(0, (self.model.heads, batch))

    def discover(
        self,
        found: HeadOutputs,
        reference: Tensor,
        matching: MatchingName,
        sources: Collection[MaskSource] = ("decoder", "attention"),
    ) -> dict[MaskSource, Tensor]:
        """Merge the heads onto each image's reference head (B,) -> masks (B, K, N) by source.

        ``decoder``: slots are averaged over matched heads and then decoded (paper, section III).
        ``decoder-masks``: every head is decoded, and the masks are averaged over matched heads.
        ``attention``: attention maps are. The matching ``none`` is the reference head alone, where
        the first two are the same. At each patch masks sum to 1 over K.
        """
        masks = {}
        if matching == "none":
            rows = torch.arange(len(reference), device=reference.device)

            def merged(values: Tensor) -> Tensor:
                return values[rows, reference]
        else:
            order = align(self._compared(found, matching), reference, matching)

            def merged(values: Tensor) -> Tensor:
                return merge(values, order)

        for source in sources:
            if source == "attention":
                masks[source] = merged(found.attention)
            elif source == "decoder":  # nearly all of the work
                masks[source] = self.model.decoder.alphas(merged(found.slots))
            else:  # and that once per head, for all matchings
                if found.alphas is None:
                    alphas = self.model.decoder.alphas(found.slots.flatten(0, 1))
                    found.alphas = alphas.unflatten(0, found.slots.shape[:2])
                masks[source] = merged(found.alphas)
        return masks

    def _compared(self, found: HeadOutputs, matching: MatchingName) -> Tensor:
        """What two heads' slots are held to be alike by."""
        if matching == "mask":
            return found.attention
        if matching == "learned":
            assert self.projection is not None
            return found.slots @ self.projection.T
        return found.slots
