"""Which patches a training step leaves visible to the slots."""

import torch
from torch import Tensor

from mmqsa.config.model import MaskingStrategy

__all__ = ["visible_patches"]


def visible_patches(score: Tensor, strategy: MaskingStrategy, ratio: float) -> Tensor:
    """Scores (B, N) -> indices (B, V) of the patches that stay visible.

    ``background`` hides the patches of highest score, ``foreground`` those of lowest; for
    ``random`` the scores are uniform draws, and the lowest stay; ``none`` hides none at any ratio.
    In the paper (section III) the score is the mean over the feature axis.

    round(ratio * N) patches are hidden in every image. The released code truncates the number of
    visible ones, in floating point, and so hides one more at two of the paper's ratios: of N = 400
    patches, 0.8 and 0.9 hide 320 and 360 here, and 321 and 361 there.

    >>> score = torch.tensor([[0.9, 0.1, 0.5, 0.7]])  # patches 0 and 3 look like background
    >>> visible_patches(score, "background", ratio=0.5).sort().values
    tensor([[1, 2]])
    >>> visible_patches(score, "foreground", ratio=0.5).sort().values
    tensor([[0, 3]])
    >>> visible_patches(score, "none", ratio=0.5)
    tensor([[0, 1, 2, 3]])
    """
    num_images, num_patches = score.shape
    if strategy == "none":
        return torch.arange(num_patches, device=score.device).expand(num_images, num_patches)
    visible = num_patches - round(ratio * num_patches)
    return score.topk(visible, dim=1, largest=strategy == "foreground").indices
