"""Masks that follow the edges of the image, by a guided filter.

In every window, a mask becomes the linear function of the colours that fits it best by ridge
regression; a pixel takes the mean of the windows that it lies in (He, Sun and Tang, "Guided image
filtering", 2013, with a guide of three colours). The functions are fitted on a small image, which
masks of few patches do not need larger, and applied to the colours at full size (He and Sun, "Fast
guided filter", 2015).
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mmqsa.device import computing_in

PATCH_PIXELS = 16  # of the small image, a side
RADIUS = 2 * PATCH_PIXELS  # windows reach two patches around a pixel
EPSILON = 1e-4  # colours, in 0..1, that vary less in a window are no edge there


def refined_slots(
    masks: Tensor, image: Image.Image, radius: int = RADIUS, epsilon: float = EPSILON
) -> tuple[Tensor, Tensor]:
    """As ``winning_slots`` of one image, with masks that follow its edges.

    Masks (K, N) and their RGB image of h x w px -> the slot that wins each pixel (h, w) uint8, and
    its mask's value there, at most 1. Slots are drawn one at a time; ties go to the earlier one.
    """
    grid = round(masks.shape[1] ** 0.5)
    side = grid * PATCH_PIXELS
    small = image.resize((side, side), Image.Resampling.BICUBIC)
    coarse = masks.float().view(1, -1, grid, grid)
    drawn = F.interpolate(coarse, size=(side, side), mode="bilinear")[0]
    with computing_in("fp32", masks.device):  # tf32 would round variances of the size of epsilon
        functions = linear_functions(drawn, _colours(small, masks.device), radius, epsilon)
    colours = _colours(image, masks.device)
    best = torch.full(colours.shape[1:], -torch.inf, device=masks.device)
    winner = torch.zeros_like(best, dtype=torch.uint8)
    for slot, function in enumerate(functions):
        *slopes, candidate = (
            F.interpolate(part[None, None], size=best.shape, mode="bilinear")[0, 0]
            for part in function
        )
        for slope, colour in zip(slopes, colours, strict=True):
            candidate.addcmul_(slope, colour)
        winner[candidate > best] = slot
        torch.maximum(best, candidate, out=best)
    return winner, best.clamp_(max=1)


def linear_functions(masks: Tensor, guide: Tensor, radius: int, epsilon: float) -> Tensor:
    """Masks (K, h, w) and colours (3, h, w) -> slopes and offset at every pixel, (K, 4, h, w).

    The filtered mask is the sum of slopes times colours, plus offset. Windows have 2 ``radius`` + 1
    px a side, less at the border.
    """
    rows, columns = (_window_means(size, radius).to(guide) for size in guide.shape[1:])

    def mean(maps: Tensor) -> Tensor:
        return rows @ maps @ columns.T

    colour, value = mean(guide), mean(masks)
    variance = mean(guide[:, None] * guide) - colour[:, None] * colour  # (3, 3, h, w)
    shared = mean(masks[:, None] * guide) - value[:, None] * colour  # (K, 3, h, w)
    ridge = variance.permute(2, 3, 0, 1) + epsilon * torch.eye(3).to(guide)
    slopes = torch.linalg.solve(ridge, shared.permute(2, 3, 1, 0)).permute(3, 2, 0, 1)
    offsets = value - (slopes * colour).sum(dim=1)
    return mean(torch.cat([slopes, offsets[:, None]], dim=1))


def _window_means(size: int, radius: int) -> Tensor:
    """The (size, size) matrix that takes the mean of a window around each position of an axis."""
    position = torch.arange(size)
    near = ((position[:, None] - position).abs() <= radius).double()
    return near / near.sum(dim=1, keepdim=True)


def _colours(image: Image.Image, device: torch.device) -> Tensor:
    """RGB in 0..1, (3, h, w)."""
    values = torch.from_numpy(np.array(image)).to(device)
    return values.permute(2, 0, 1).contiguous() / 255
