"""The whole model in training: keys in, reconstruction loss out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmqsa.config.model import ModelConfig
from mmqsa.errors import InputError
from mmqsa.model.decoder import SpatialBroadcastDecoder
from mmqsa.model.masking import visible_patches
from mmqsa.model.slot_attention import MultiQuerySlotAttention


@dataclass
class Draws:
    """The chance in one step: slot noise (H, B, K, D_slot); what only some configs draw is None.

    ``uniform`` (B, N) chooses what random masking hides, ``patches`` (N') are those to decode.
    """

    noise: Tensor
    uniform: Tensor | None = None
    patches: Tensor | None = None


class MaskedSlotModel(nn.Module):
    """Frozen keys -> standardise -> hide patches -> encoder MLP -> slot attention -> decoder."""

    def __init__(self, config: ModelConfig, patches: int, feature_dim: int):
        super().__init__()
        slots, decoder = config.slots, config.decoder
        self.masking = config.masking
        self.patches_per_step = decoder.patches_per_step
        self.number = slots.num_slots
        self.register_buffer("feature_mean", torch.zeros(patches, feature_dim))
        self.register_buffer("feature_scale", torch.ones(patches, feature_dim))
        self.encoder = nn.Sequential(
            nn.Linear(feature_dim, slots.encoder_dim),
            nn.LeakyReLU(inplace=True),
            nn.Linear(slots.encoder_dim, feature_dim),
        )
        self.slot_attention = MultiQuerySlotAttention(
            feature_dim,
            slots.slot_dim,
            slots.mlp_dim,
            slots.num_heads,
            slots.iterations,
            learned_initialisation=slots.initialisation == "learned",
            normed_state=slots.gru_state == "normed",
        )
        self.decoder = SpatialBroadcastDecoder(
            patches, slots.slot_dim, decoder.hidden_dim, decoder.layers, feature_dim
        )

        if slots.start == "clustering":
            self._start_as_clustering(feature_dim)

    @torch.no_grad()
    def _start_as_clustering(self, feature_dim: int) -> None:
        """Make the untrained model soft k-means on its keys: identity encoder, clustering heads.

        LeakyReLU(x) - LeakyReLU(-x) = (1 + slope) x, so two mirrored halves of the hidden layer
        pass the features on unchanged; hidden units beyond those start random.
        """
        first, activation, last = self.encoder
        width, hidden = feature_dim, first.out_features
        if hidden < 2 * width or self.slot_attention.width != width:
            raise InputError(
                f"slots.start: clustering needs encoder_dim >= {2 * width} and width {width} "
                f"(twice and once the feature width), not {hidden} and {self.slot_attention.width}"
            )
        mirror = torch.cat([torch.eye(width), -torch.eye(width)])
        first.weight[: 2 * width], first.bias[: 2 * width] = mirror, 0
        last.weight.zero_(), last.bias.zero_()
        last.weight[:, : 2 * width] = mirror.T / (1 + activation.negative_slope)
        self.slot_attention.start_as_clustering()

    @property
    def heads(self) -> int:
        return len(self.slot_attention.heads)

    def standardise_by(self, mean: Tensor, std: Tensor) -> None:
        """Set the standardisation: a training set's mean (N, D) and std (1, D)."""
        self.feature_mean.copy_(mean)
        self.feature_scale.copy_((1 / std).expand_as(self.feature_scale))

    def standardised(self, keys: Tensor) -> Tensor:
        """Keys (B, N, D) of any float type -> (B, N, D) float32."""
        offset = -self.feature_mean * self.feature_scale
        return torch.addcmul(offset, keys.float(), self.feature_scale)  # in one pass

    def noise(self, batch: int, generator: torch.Generator, slots: int | None = None) -> Tensor:
        """Standard normal slot noise (B, K, D_slot)."""
        shape = (batch, slots or self.number, self.slot_attention.width)
        return torch.randn(shape, generator=generator, device=generator.device)

    def draw(self, batch: int, generator: torch.Generator, heads: int = 1) -> Draws:
        """What a step on B images through ``heads`` heads needs of chance."""
        patches, device = len(self.feature_mean), generator.device
        uniform = chosen = None
        if self.masking.strategy == "random":
            uniform = torch.rand(batch, patches, generator=generator, device=device)
        noise = torch.stack([self.noise(batch, generator) for _ in range(heads)])
        if self.patches_per_step is not None and self.patches_per_step < patches:
            order = torch.randperm(patches, generator=generator, device=device)
            chosen = order[: self.patches_per_step]
        return Draws(noise, uniform, chosen)

    def loss(self, keys: Tensor, heads: Sequence[int], draws: Draws) -> Tensor:
        """Keys (B, N, D) -> mean squared error of the unmasked features, mean over ``heads``.

        The target is a constant: neither it nor the backbone behind it can move towards the
        reconstruction. Only the given heads are computed; the others would get no gradient.
        """
        keys = keys.float()
        target = self.standardised(keys)
        scored = keys if self.masking.score == "raw" else target
        visible = visible_patches(scored, self.masking.strategy, self.masking.ratio, draws.uniform)
        features, multiplicity = self._encode_visible(target, visible)
        slots = [
            self.slot_attention(features, noise, head, multiplicity)[0]
            for head, noise in zip(heads, draws.noise, strict=True)
        ]
        reconstruction, _ = self.decoder(torch.cat(slots), draws.patches)
        if draws.patches is not None:
            target = target[:, draws.patches]
        by_head = reconstruction.float().unflatten(0, (len(slots), len(keys)))
        return F.mse_loss(by_head, target.expand_as(by_head))

    def _encode_visible(self, features: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, N, D), visible patches (B, V) -> encoded (B, V + 1, D), counts (V + 1).

        Hidden patches are zeros, so all of them are one and the same token to the encoder and the
        slots: it is encoded once, last, and counts P - V times. Equal to running all P.
        """
        images, patches, width = features.shape
        first = torch.arange(0, images * patches, patches, device=features.device)
        rows = features.flatten(0, 1).index_select(0, (first[:, None] + visible).flatten())
        seen = F.pad(rows.view(images, -1, width), (0, 0, 0, 1))
        multiplicity = torch.ones(seen.shape[1], device=features.device)
        multiplicity[-1] = patches - visible.shape[1]
        return self.encoder(seen), multiplicity
