"""Spatial-broadcast MLP decoder over patches."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of the learned positions at the start: about a slot's own. With 0.02, as is usual for embeddings,
# the first layer hears slots alone, and all patches stay in one slot for long.
POSITION_SCALE = 0.7

IMAGES_AT_ONCE = 4  # decoded for their masks alone; their hidden vectors are most of the memory


class SpatialBroadcastDecoder(nn.Module):
    """Every slot, with a learned position per patch, decodes features and a mask logit.

    With MLP = Linear, ReLU, ... , Linear to D + 1 numbers:

        features_kn, logit_kn = MLP(slot_k + position_n)
        reconstruction_n = sum_k softmax_k(logit_kn) features_kn

    Two identities save a fifth and a seventh of a training step and change nothing but rounding:
    the first layer is linear, so it is applied to slots and positions apart and the results are
    added; the last one is linear and the softmax sums to 1, so hidden vectors are mixed over slots
    before they are projected.

    >>> _ = torch.manual_seed(0)
    >>> decoder = SpatialBroadcastDecoder(25, slot_dim=16, hidden_dim=32, layers=2, feature_dim=8)
    >>> reconstruction, masks = decoder(torch.randn(4, 3, 16))
    >>> reconstruction.shape, masks.shape, masks.sum(dim=1).allclose(torch.ones(4, 25))
    (torch.Size([4, 25, 8]), torch.Size([4, 3, 25]), True)
    """

    def __init__(
        self,
        num_patches: int,
        slot_dim: int,
        hidden_dim: int,
        layers: int,
        feature_dim: int,
        patches_per_step: int | None = None,
    ):
        super().__init__()
        self.patches_per_step = patches_per_step
        self.position = nn.Parameter(POSITION_SCALE * torch.randn(num_patches, slot_dim))
        self.first = nn.Linear(slot_dim, hidden_dim)
        self.hidden = nn.ModuleList(nn.Linear(hidden_dim, hidden_dim) for _ in range(layers - 1))
        self.to_mask = nn.Linear(hidden_dim, 1)
        self.to_features = nn.Linear(hidden_dim, feature_dim)

    def draw(self, generator: torch.Generator) -> Tensor | None:
        """The patches that a training step decodes: indices (N',); None for all."""
        num_patches = len(self.position)
        if self.patches_per_step is None or self.patches_per_step >= num_patches:
            return None
        order = torch.randperm(num_patches, generator=generator, device=generator.device)
        return order[: self.patches_per_step]

    def compared(self, features: Tensor, drawn: Tensor | None) -> Tensor:
        """The part of features (B, N, D) that is decoded."""
        return features if drawn is None else features[:, drawn]

    def forward(
        self, slots: Tensor, features: Tensor | None = None, drawn: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Slots (B, K, D_slot) -> reconstruction (B, N, D), masks (B, K, N) that sum to 1 over K.

        With indices ``drawn`` (N',) only those patches are decoded. It never sees ``features``,
        which the transformer decoder needs.
        """
        hidden = self._hidden(slots, drawn)
        masks = self._masks(hidden)
        mixed = torch.einsum("bkn,bknd->bnd", masks.to(hidden.dtype), hidden)
        return self.to_features(mixed), masks

    def _hidden(self, slots: Tensor, drawn: Tensor | None = None) -> Tensor:
        """Slots (B, K, D_slot) -> hidden vectors (B, K, N, hidden_dim)."""
        position = self.position if drawn is None else self.position[drawn]
        position = F.linear(position, self.first.weight)
        hidden = F.relu(self.first(slots)[:, :, None] + position, inplace=True)
        shape, hidden = hidden.shape, hidden.flatten(0, 2)  # of a view, relu in place costs copies
        for layer in self.hidden:
            hidden = F.relu(layer(hidden), inplace=True)
        return hidden.view(shape)

    def _masks(self, hidden: Tensor) -> Tensor:
        """Hidden vectors (B, K, N, hidden_dim) -> masks (B, K, N)."""
        masks: Tensor = self.to_mask(hidden).squeeze(-1).float().softmax(dim=1)
        return masks

    def masks(self, slots: Tensor, features: Tensor | None = None) -> Tensor:
        """Slots (B, K, D_slot) -> masks (B, K, N), a few images at a time to bound the memory."""
        parts = slots.split(IMAGES_AT_ONCE)
        return torch.cat([self._masks(self._hidden(images)) for images in parts])
