"""The whole model: features in; a reconstruction loss, or the masks of an image's objects, out."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmqsa.config.choices import MaskSource, MatchingName
from mmqsa.config.fits import fault_of
from mmqsa.config.model import ModelConfig
from mmqsa.errors import InputError
from mmqsa.model.decoders import make_decoder
from mmqsa.model.encoder import PatchEncoder
from mmqsa.model.head_per_block import HeadPerBlock
from mmqsa.model.masking import visible_patches
from mmqsa.model.matching import align, merge
from mmqsa.model.merging import PLAIN, HeadMerge, Merging, join_alike
from mmqsa.model.slot_attention import SlotAttention


@dataclass
class Draws:
    """The random numbers of one training step; those that its config does not need are None.

    >>> from mmqsa.config import ModelConfig
    >>> slots = {"num_slots": 3, "num_heads": 2, "slot_dim": 16, "mlp_dim": 16, "encoder_dim": 16}
    >>> config = ModelConfig.model_validate({"slots": slots, "decoder": {"hidden_dim": 32}})
    >>> model = MaskedSlotModel(config, num_patches=25, feature_dim=8)
    >>> draws = model.draw(4, torch.Generator().manual_seed(0))
    >>> draws.noise.shape, draws.uniform, draws.decoding
    (torch.Size([1, 4, 3, 16]), None, None)
    """

    noise: Tensor
    """(H, B, K, D_slot) standard normal, of the heads that the step trains"""
    uniform: Tensor | None = None
    """(B, N) choose what random masking hides"""
    decoding: Tensor | None = None
    """what the decoder draws: (N',) indices of patches (MLP), or (1,) of an order (transformer)"""


@dataclass
class ModelOutput:
    """What a training step computes, for its H heads.

    >>> from mmqsa.config import ModelConfig
    >>> slots = {"num_slots": 3, "num_heads": 2, "slot_dim": 16, "mlp_dim": 16, "encoder_dim": 16}
    >>> config = ModelConfig.model_validate({"slots": slots, "decoder": {"hidden_dim": 32}})
    >>> model = MaskedSlotModel(config, num_patches=25, feature_dim=8)
    >>> draws = model.draw(4, torch.Generator().manual_seed(0))
    >>> output = model(torch.randn(4, 25, 8), heads=[1], draws=draws)
    >>> output.loss.shape, output.slots.shape
    (torch.Size([]), torch.Size([4, 1, 3, 16]))
    >>> output.reconstruction.shape, output.masks.shape
    (torch.Size([4, 1, 25, 8]), torch.Size([4, 1, 3, 25]))
    """

    loss: Tensor
    """() mean squared error of the reconstruction"""
    slots: Tensor
    """(B, H, K, D_slot)"""
    reconstruction: Tensor
    """(B, H, N, D) standardised features"""
    masks: Tensor
    """(B, H, K, N) of the decoder"""


@dataclass
class HeadOutputs:
    """All heads of a batch, before they are merged.

    >>> from mmqsa.config import ModelConfig
    >>> slots = {"num_slots": 3, "num_heads": 2, "slot_dim": 16, "mlp_dim": 16, "encoder_dim": 16}
    >>> config = ModelConfig.model_validate({"slots": slots, "decoder": {"hidden_dim": 32}})
    >>> model = MaskedSlotModel(config, num_patches=25, feature_dim=8)
    >>> noise = model.noise(4, torch.Generator().manual_seed(0))
    >>> outputs = model.run_heads(torch.randn(4, 25, 8), noise)
    >>> outputs.slots.shape, outputs.attention.shape
    (torch.Size([4, 2, 3, 16]), torch.Size([4, 2, 3, 25]))
    >>> list(model.merge_heads(outputs, "greedy"))
    ['decoder', 'attention']
    """

    slots: Tensor
    """(B, H, K, D_slot)"""
    attention: Tensor
    """(B, H, K, N) of the last iteration"""
    features: Tensor
    """(B, N, D) standardised, which a transformer decoder needs"""
    masks: Tensor | None = None
    """(B, H, K, N) of each head's own slots, decoded; None: not asked for"""


class MaskedSlotModel(nn.Module):
    """Frozen features -> standardise -> hide patches -> encoder -> slot attention -> decoder.

    >>> from mmqsa.config.model import ModelConfig
    >>> slots = {"num_slots": 3, "num_heads": 2, "slot_dim": 16, "mlp_dim": 16, "encoder_dim": 16}
    >>> config = ModelConfig.model_validate({"slots": slots, "decoder": {"hidden_dim": 32}})
    >>> _, generator = torch.manual_seed(0), torch.Generator().manual_seed(0)
    >>> model = MaskedSlotModel(config, num_patches=25, feature_dim=8)
    >>> optimiser, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    >>> features = torch.randn(4, 25, 8)
    >>> for step in range(30):
    ...     output = model(features, heads=[step % 2], draws=model.draw(4, generator))
    ...     optimiser.zero_grad()
    ...     output.loss.backward()
    ...     optimiser.step()
    ...     losses.append(output.loss.item())
    >>> losses[-1] < 0.9 * losses[0]
    True
    >>> masks = model.segment(features, model.noise(4, generator))["decoder"]
    >>> masks.shape
    torch.Size([4, 3, 25])
    """

    feature_mean: Tensor
    feature_scale: Tensor
    background_direction: Tensor

    def __init__(self, config: ModelConfig, num_patches: int, feature_dim: int):
        super().__init__()
        slots, decoder = config.slots, config.decoder
        if fault := fault_of(config, num_patches, feature_dim):
            raise InputError(fault)
        self.masking = config.masking
        self.num_slots = slots.num_slots
        self.num_heads = slots.num_heads
        self.num_patches = num_patches
        self.register_buffer("feature_mean", torch.zeros(num_patches, feature_dim))
        self.register_buffer("feature_scale", torch.ones(num_patches, feature_dim))
        if config.masking.score == "principal-component":  # see features/principal_component.py
            self.register_buffer("background_direction", torch.zeros(feature_dim))
        self.slot_dim = slots.slot_dim

        def heads(dim: int, count: int) -> tuple[PatchEncoder, SlotAttention]:
            return PatchEncoder(dim, slots.encoder_dim), SlotAttention(
                dim,
                slots.slot_dim,
                slots.mlp_dim,
                count,
                slots.iterations,
                slots.initialisation,
                normed_state=slots.gru_state == "normed",
                num_slots=slots.num_slots,
            )

        self.encoder: PatchEncoder | nn.Identity
        self.slot_attention: SlotAttention | HeadPerBlock
        if slots.reads == "block":
            dim = feature_dim // slots.num_heads
            self.encoder = nn.Identity()  # every head has its own
            self.slot_attention = HeadPerBlock(slots.num_heads, lambda: heads(dim, 1))
        else:
            self.encoder, self.slot_attention = heads(feature_dim, slots.num_heads)
        self.decoder = make_decoder(decoder, num_patches, slots.slot_dim, feature_dim)
        if slots.start == "clustering":  # soft k-means on the features, before any training
            if isinstance(self.encoder, PatchEncoder):
                self.encoder.start_as_identity()
            self.slot_attention.start_as_clustering()

    def standardise_by(self, mean: Tensor, std: Tensor) -> None:
        """Set the standardisation: a training set's mean (N, D) and std (1, D)."""
        self.feature_mean.copy_(mean)
        self.feature_scale.copy_((1 / std).expand_as(self.feature_scale))

    def standardised(self, features: Tensor) -> Tensor:
        """Features (B, N, D) of any float type -> (B, N, D) float32."""
        offset = -self.feature_mean * self.feature_scale
        return torch.addcmul(offset, features.float(), self.feature_scale)  # in one pass

    def visible_patches(
        self, features: Tensor, inputs: Tensor, uniform: Tensor | None = None
    ) -> Tensor:
        """Features (B, N, D), raw and standardised -> indices (B, V) of what masking leaves.

        ``uniform`` (B, N) are the draws that random masking needs.
        """
        if self.masking.strategy in ("background", "foreground"):
            score = self.background_score(features, inputs)
        elif self.masking.strategy == "random":
            assert uniform is not None, "random masking needs draws"
            score = uniform
        else:
            score = inputs[..., 0]
        return visible_patches(score, self.masking.strategy, self.masking.ratio)

    def background_score(self, features: Tensor, inputs: Tensor) -> Tensor:
        """Features (B, N, D), raw and standardised -> (B, N), high for background."""
        if self.masking.score == "mean":
            return features.float().mean(dim=-1)
        if self.masking.score == "standardised-mean":
            return inputs.mean(dim=-1)
        return features.float() @ self.background_direction

    def noise(
        self,
        batch: int,
        generator: torch.Generator,
        num_heads: int | None = None,
        num_slots: int | None = None,
    ) -> Tensor:
        """Standard normal slot noise (H, B, K, D_slot), by default of all heads."""
        heads, slots = num_heads or self.num_heads, num_slots or self.num_slots
        shape = (heads, batch, slots, self.slot_dim)
        return torch.randn(shape, generator=generator, device=generator.device)

    def draw(self, batch: int, generator: torch.Generator, num_heads: int = 1) -> Draws:
        """Draw the random numbers of a training step on B images through ``num_heads`` heads."""
        uniform = None
        if self.masking.strategy == "random":
            shape = (batch, self.num_patches)
            uniform = torch.rand(shape, generator=generator, device=generator.device)
        noise = self.noise(batch, generator, num_heads)
        return Draws(noise, uniform, self.decoder.draw(generator))

    def forward(
        self, features: Tensor, heads: Sequence[int], draws: Draws, merged: bool = False
    ) -> ModelOutput:
        """Features (B, N, D) -> reconstruction by each of ``heads``, and their mean loss.

        The loss compares with all patches, hidden ones too. The target is a constant: neither it
        nor the backbone behind it can move towards the reconstruction. Only the given heads are
        computed; the others get no gradient. ``merged``: their slots are matched with the first
        one's and averaged before they are decoded, and so H = 1.
        """
        features = features.float()  # here, so that it is done once
        inputs = self.standardised(features)
        target = inputs.detach()
        visible = self.visible_patches(features, inputs, draws.uniform)
        encoded, num_hidden = self.encode(inputs, visible)
        slots, _ = self.slot_attention(encoded, draws.noise, heads, copies=num_hidden)
        if merged:
            first = torch.zeros(len(slots), dtype=torch.int64, device=slots.device)
            slots = merge(slots, align(slots.detach(), first, "hungarian"))[:, None]
        decoded, masks = self.decoder(slots.flatten(0, 1), target, draws.decoding)
        target = self.decoder.compared(target, draws.decoding)
        reconstruction = decoded.float().unflatten(0, slots.shape[:2])
        loss = F.mse_loss(reconstruction, target[:, None].expand_as(reconstruction))
        return ModelOutput(loss, slots, reconstruction, masks.unflatten(0, slots.shape[:2]))

    def encode(self, inputs: Tensor, visible: Tensor) -> tuple[Tensor, int]:
        """Standardised features (B, N, D), indices (B, V) -> encoded (B, V + 1, D), and N - V.

        Hidden patches are zero and so all alike: the last one stands for all. Where none is
        hidden, it is left out.
        """
        (num_images, num_patches), num_visible = inputs.shape[:2], visible.shape[1]
        num_hidden = num_patches - num_visible
        first = num_patches * torch.arange(num_images, device=inputs.device)
        rows = F.pad(visible, (0, min(num_hidden, 1))) + first[:, None]
        shown = inputs.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, rows.shape)
        shown[:, num_visible:] = 0
        return self.encoder(shown), num_hidden

    def segment(
        self,
        features: Tensor,
        noise: Tensor,
        matching: MatchingName = "hungarian",
        sources: Collection[MaskSource] = ("decoder", "attention"),
        reference: Tensor | None = None,
        iterations: int | None = None,
        merging: Merging = PLAIN,
    ) -> dict[MaskSource, Tensor]:
        """Features (B, N, D), slot noise (H, B, K, D_slot) -> merged masks (B, K, N) by source.

        The number of slots is the noise's (see ``noise``), and ``iterations`` may differ from the
        training's too. ``run_heads`` and ``merge_heads`` do the same in two steps, so that several
        matchings share the heads; see there for the other arguments.
        """
        outputs = self.run_heads(features, noise, iterations, decode="decoder-masks" in sources)
        return self.merge_heads(outputs, matching, sources, reference, merging)

    def run_heads(
        self, features: Tensor, noise: Tensor, iterations: int | None = None, decode: bool = False
    ) -> HeadOutputs:
        """Features (B, N, D), nothing hidden, slot noise (H, B, K, D_slot) -> all heads.

        ``decode`` also decodes each head's slots, which the mask source ``decoder-masks`` needs.
        """
        inputs = self.standardised(features)
        encoded = self.encoder(inputs)
        slots, attention = self.slot_attention(encoded, noise, iterations=iterations)
        masks = None
        if decode:
            masks = self.decoder.masks(slots.flatten(0, 1), inputs).unflatten(0, slots.shape[:2])
        return HeadOutputs(slots, attention, inputs, masks)

    def merge_heads(
        self,
        outputs: HeadOutputs,
        matching: MatchingName = "hungarian",
        sources: Collection[MaskSource] = ("decoder", "attention"),
        reference: Tensor | None = None,
        merging: Merging = PLAIN,
    ) -> dict[MaskSource, Tensor]:
        """Merge the heads onto each image's reference head (B,) -> masks (B, K, N) by source.

        ``decoder``: slots are merged over matched heads and then decoded (paper, section III).
        ``decoder-masks``: every head is decoded, and the masks are merged over matched heads.
        ``attention``: attention maps are merged. The matching ``none`` takes the reference head
        alone, where the first two are the same. At each patch masks sum to 1 over K; where an
        image has fewer objects than K, the rest are zero.

        ``reference`` None is the first head. ``merging`` holds what some matchings need. Raises
        InputError when slots are not finite, as those of damaged weights.
        """
        slots, attention = outputs.slots, outputs.attention
        if reference is None:
            reference = torch.zeros(len(slots), dtype=torch.int64, device=slots.device)
        if not bool(slots.isfinite().all()):
            raise InputError("the slots are not finite: the run is damaged; train it again")
        heads = HeadMerge(slots, attention, matching, reference, merging)
        masks: dict[MaskSource, Tensor] = {}
        for source in sources:
            if source == "decoder":
                decoded = self.decoder.masks(heads.of_slots(), outputs.features)
                masks[source] = heads.of_decoded(decoded)
            elif source == "attention":
                masks[source] = heads.of_masks(attention)
            else:
                assert outputs.masks is not None, "run_heads was not asked to decode"
                masks[source] = heads.of_masks(outputs.masks)
            if matching == "joined":
                masks[source] = join_alike(masks[source], outputs.features, merging.alike)
        return masks
