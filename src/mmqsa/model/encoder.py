"""MLP encoder of patch features."""

import torch
from torch import Tensor, nn

from mmqsa.errors import InputError


class PatchEncoder(nn.Sequential):
    """Two linear layers with a LeakyReLU between: features (B, N, D) -> (B, N, D).

    >>> PatchEncoder(feature_dim=6, hidden_dim=8)(torch.zeros(2, 25, 6)).shape
    torch.Size([2, 25, 6])
    """

    def __init__(self, feature_dim: int, hidden_dim: int):
        super().__init__(
            nn.Linear(feature_dim, hidden_dim),
            nn.LeakyReLU(inplace=True),
            nn.Linear(hidden_dim, feature_dim),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (..., D) -> (..., D)."""
        rows = features.flatten(0, -2)  # LeakyReLU in place on a view costs copies in the backward
        encoded: Tensor = super().forward(rows)
        return encoded.view(features.shape)

    @torch.no_grad()
    def start_as_identity(self) -> None:
        """Set weights that pass the features on unchanged.

        LeakyReLU(x) - LeakyReLU(-x) = (1 + slope) x, so two mirrored halves of the hidden layer do
        it; hidden units beyond those stay random. Raises InputError when there are too few.
        """
        first, activation, last = self
        assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
        assert isinstance(activation, nn.LeakyReLU)
        dim, hidden_dim = first.in_features, first.out_features
        if hidden_dim < 2 * dim:
            raise InputError(
                f"slots.encoder_dim: slots.start: clustering needs at least {2 * dim}, twice the "
                f"feature dim, not {hidden_dim}"
            )
        mirror = torch.cat([torch.eye(dim), -torch.eye(dim)])
        first.weight[: 2 * dim], first.bias[: 2 * dim] = mirror, 0
        last.weight.zero_()
        last.bias.zero_()
        last.weight[:, : 2 * dim] = mirror.T / (1 + activation.negative_slope)
