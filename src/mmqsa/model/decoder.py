"""Spatial-broadcast MLP decoder over patches."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of the learned positions at the start: about a slot's own. With 0.02, as is usual for embeddings,
# the first layer hears slots alone, and all patches stay in one slot for long.
POSITION_SCALE = 0.7

IMAGES_AT_ONCE = 4  # decoded for their alphas alone


class SpatialBroadcastDecoder(nn.Module):
    """Every slot, with a learned position per patch, decodes features and an alpha logit.

    Plainly, with MLP = Linear, ReLU, ... , Linear to D + 1 numbers:

        features_kp, alpha_kp = MLP(slot_k + position_p)
        reconstruction_p = sum_k softmax_k(alpha_kp) features_kp

    Two identities save work and change nothing but rounding: the first layer is linear, so it is
    applied to slots and positions apart and the results are added; the last one is linear and the
    softmax sums to 1, so hidden vectors are mixed over slots before they are projected.
    """

    def __init__(self, patches: int, slot_dim: int, width: int, layers: int, feature_dim: int):
        super().__init__()
        self.position = nn.Parameter(POSITION_SCALE * torch.randn(patches, slot_dim))
        self.first = nn.Linear(slot_dim, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(layers - 1))
        self.to_alpha = nn.Linear(width, 1)
        self.to_features = nn.Linear(width, feature_dim)

    def forward(self, slots: Tensor, patches: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Slots (B, K, D_slot) -> reconstruction (B, N, D), alphas (B, K, N) that sum to 1 over K.

        ``patches`` (P',) decodes only those patches.
        """
        hidden = self._hidden(slots, patches)
        alphas = self._alphas(hidden)
        mixed = torch.einsum("bkp,bkpw->bpw", alphas.to(hidden.dtype), hidden)
        return self.to_features(mixed), alphas

    def alphas(self, slots: Tensor) -> Tensor:
        """Slots (B, K, D_slot) -> alphas (B, K, N) alone, without the features.

        A few images at a time: their hidden vectors are the most memory of an evaluation, and a CPU
        keeps few enough of them in its cache.
        """
        few = slots.split(IMAGES_AT_ONCE)
        return torch.cat([self._alphas(self._hidden(own, None)) for own in few])

    def _hidden(self, slots: Tensor, patches: Tensor | None) -> Tensor:
        position = self.position if patches is None else self.position[patches]
        of_position = F.linear(position, self.first.weight)
        hidden = F.relu(self.first(slots)[:, :, None] + of_position, inplace=True)
        for layer in self.hidden:
            hidden = F.relu(layer(hidden), inplace=True)
        return hidden

    def _alphas(self, hidden: Tensor) -> Tensor:
        return self.to_alpha(hidden).squeeze(-1).float().softmax(dim=1)
