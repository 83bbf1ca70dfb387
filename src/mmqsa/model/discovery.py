"""The whole model in training: keys in, reconstruction loss out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmqsa.errors import InputError
from mmqsa.model.decoder import SpatialBroadcastDecoder
from mmqsa.model.masking import visible_patches
from mmqsa.model.slot_attention import MultiQuerySlotAttention
from mmqsa.settings import Settings


class MaskedSlotModel(nn.Module):
    """Frozen keys -> standardise -> hide patches -> encoder MLP -> slot attention -> decoder."""

    def __init__(self, settings: Settings, patches: int, feature_width: int):
        super().__init__()
        slots, decoder = settings.slots, settings.decoder
        self.masking = settings.masking
        self.patches_per_step = decoder.patches_per_step
        self.number = slots.number
        self.register_buffer("feature_mean", torch.zeros(patches, feature_width))
        self.register_buffer("feature_scale", torch.ones(patches, feature_width))
        self.encoder = nn.Sequential(
            nn.Linear(feature_width, slots.encoder_width),
            nn.LeakyReLU(),
            nn.Linear(slots.encoder_width, feature_width),
        )
        self.slot_attention = MultiQuerySlotAttention(
            feature_width,
            slots.width,
            slots.mlp_width,
            slots.heads,
            slots.iterations,
            learned_initialisation=slots.initialisation == "learned",
        )
        self.decoder = SpatialBroadcastDecoder(
            patches, slots.width, decoder.width, decoder.layers, feature_width
        )

        if slots.start == "clustering":
            self._start_as_clustering(feature_width)

    @torch.no_grad()
    def _start_as_clustering(self, feature_width: int) -> None:
        """Make the untrained model soft k-means on its keys: identity encoder, clustering heads.

        LeakyReLU(x) - LeakyReLU(-x) = (1 + slope) x, so two mirrored halves of the hidden layer
        pass the features on unchanged; hidden units beyond those start random.
        """
        first, activation, last = self.encoder
        width, hidden = feature_width, first.out_features
        if hidden < 2 * width or self.slot_attention.width != width:
            raise InputError(
                f"slots.start: clustering needs encoder_width >= {2 * width} and width {width} "
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

    def standardise_by(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the standardisation: a training set's mean (P, D) and deviation (1, D)."""
        self.feature_mean.copy_(mean)
        self.feature_scale.copy_((1 / deviation).expand_as(self.feature_scale))

    def standardised(self, keys: Tensor) -> Tensor:
        """Keys (B, P, D) of any float type -> (B, P, D) float32."""
        return (keys.float() - self.feature_mean) * self.feature_scale

    def noise(self, batch: int, generator: torch.Generator) -> Tensor:
        """Standard normal slot noise (B, K, W)."""
        return torch.randn(
            batch,
            self.number,
            self.slot_attention.width,
            generator=generator,
            device=generator.device,
        )

    def loss(self, keys: Tensor, head: int, generator: torch.Generator) -> Tensor:
        """Keys (B, P, D) -> mean squared error of the unmasked features, through one head.

        The target is a constant: neither it nor the backbone behind it can move towards the
        reconstruction. Only the drawn head is computed; the others would get no gradient.
        """
        target = self.standardised(keys)
        scored = keys if self.masking.score == "raw" else target
        visible = visible_patches(scored, self.masking.strategy, self.masking.ratio, generator)
        features, multiplicity = self._encode_visible(target, visible)
        noise = self.noise(len(keys), generator)
        slots, _ = self.slot_attention(features, noise, head, multiplicity)
        chosen = self._patches_to_decode(keys.shape[1], generator)
        reconstruction, _ = self.decoder(slots, chosen)
        if chosen is not None:
            target = target[:, chosen]
        return F.mse_loss(reconstruction.float(), target)

    def _encode_visible(self, features: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, P, D), visible patches (B, V) -> encoded (B, V + 1, D), counts (V + 1).

        Hidden patches are zeros, so all of them are one and the same token to the encoder and the
        slots: it is encoded once, last, and counts P - V times. Equal to running all P.
        """
        patches, width = features.shape[1:]
        index = visible[..., None].expand(-1, -1, width)
        seen = F.pad(features.gather(1, index), (0, 0, 0, 1))
        multiplicity = torch.ones(seen.shape[1], device=features.device)
        multiplicity[-1] = patches - visible.shape[1]
        return self.encoder(seen), multiplicity

    def _patches_to_decode(self, patches: int, generator: torch.Generator) -> Tensor | None:
        """A random subset: an unbiased estimate of the loss for less work. None decodes all."""
        if self.patches_per_step is None or self.patches_per_step >= patches:
            return None
        order = torch.randperm(patches, generator=generator, device=generator.device)
        return order[: self.patches_per_step]
