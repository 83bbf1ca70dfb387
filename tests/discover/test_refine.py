"""Masks that follow edges, against the guided filter as He et al. (2013) write it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mmqsa.discover.refine import linear_functions, refined_slots
from mmqsa.evaluation.scoring import winning_slots


def filtered(masks: torch.Tensor, guide: torch.Tensor, radius: int, epsilon: float) -> torch.Tensor:
    functions = linear_functions(masks, guide, radius, epsilon)
    return (functions[:, :3] * guide).sum(dim=1) + functions[:, 3]


def plain_filter(mask, guide, radius, epsilon):
    """Pixel by pixel: mask (h, w), guide (h, w, 3) -> (h, w). Equations 19 to 21 of the paper."""
    height, width = mask.shape

    def window(row, column):
        return np.s_[
            max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1
        ]

    slopes, offsets = np.empty((height, width, 3)), np.empty((height, width))
    for row, column in np.ndindex(height, width):
        colours = guide[window(row, column)].reshape(-1, 3)
        values = mask[window(row, column)].ravel()
        covariance = np.cov(colours.T, bias=True) + epsilon * np.eye(3)
        shared = (colours * values[:, None]).mean(axis=0) - colours.mean(axis=0) * values.mean()
        slopes[row, column] = np.linalg.inv(covariance) @ shared
        offsets[row, column] = values.mean() - slopes[row, column] @ colours.mean(axis=0)
    result = np.empty((height, width))
    for row, column in np.ndindex(height, width):
        slope = slopes[window(row, column)].reshape(-1, 3).mean(axis=0)
        result[row, column] = slope @ guide[row, column] + offsets[window(row, column)].mean()
    return result


@pytest.mark.parametrize("radius", [1, 3, 50])
def test_the_filter_is_that_of_the_paper(radius):
    rng = np.random.default_rng(0)
    masks, guide = rng.random((2, 9, 14)), rng.random((9, 14, 3))
    found = filtered(torch.tensor(masks), torch.tensor(guide).permute(2, 0, 1), radius, 1e-3)
    for mask, one in zip(masks, found.numpy(), strict=True):
        np.testing.assert_allclose(one, plain_filter(mask, guide, radius, 1e-3), atol=1e-9)


def test_a_constant_guide_gives_the_mean_of_means():
    mask = torch.rand(1, 12, 17, dtype=torch.float64)
    found = filtered(mask, torch.full((3, 12, 17), 0.4, dtype=torch.float64), 2, 1e-3)
    ones = torch.ones_like(mask)

    def means(maps):
        total, count = (F.avg_pool2d(each, 5, 1, 2) for each in (maps, ones))
        return total / count

    torch.testing.assert_close(found, means(means(mask)))


def test_masks_still_sum_to_one():
    masks = torch.rand(4, 20, 30, dtype=torch.float64).softmax(dim=0)
    found = filtered(masks, torch.rand(3, 20, 30, dtype=torch.float64), 4, 1e-4)
    torch.testing.assert_close(found.sum(dim=0), torch.ones(20, 30, dtype=torch.float64))


@pytest.fixture
def halves() -> torch.Tensor:
    """Two slots of 8 x 8 patches, the second in columns 4 to 7: masks (2, 64)."""
    right = (torch.arange(8) >= 4).float().expand(8, 8).ravel() * 0.8 + 0.1
    return torch.stack([1 - right, right])


@pytest.mark.parametrize("size", [(128, 128), (200, 90), (60, 300), (640, 512)])
@pytest.mark.parametrize("edge", [3.6, 4.4])
def test_a_step_edge_is_followed(halves, size, edge):
    """The colour changes 0.4 of a patch beside the masks' edge; only refined masks change there."""
    width, height = size
    column = round(width * edge / 8)
    pixels = np.full((height, width, 3), (40, 160, 30), dtype=np.uint8)
    pixels[:, column:] = (200, 60, 120)
    slots, values = refined_slots(halves, Image.fromarray(pixels))
    assert slots.shape == values.shape == (height, width) and slots.dtype == torch.uint8
    expected = (np.arange(width) >= column).astype(np.uint8)
    assert (slots.numpy() == expected).all()
    assert values.min() > 0.5 and values.max() <= 1
    coarse = winning_slots(halves[None], height, width)[0][0].numpy()
    assert (coarse != expected).mean() > 0.03


def test_a_mask_beyond_one_counts_as_one(halves):
    """A colour that is rare in its windows takes a linear function beyond the masks' range."""
    pixels = np.full((128, 128, 3), 90, dtype=np.uint8)
    pixels[:, 64:] = 140
    pixels[63:65, 68:70] = 255
    _, values = refined_slots(halves, Image.fromarray(pixels))
    assert values.max() == 1


def test_it_computes_in_fp32_after_a_backbone_in_tf32(halves):
    torch.set_float32_matmul_precision("high")
    refined_slots(halves, Image.new("RGB", (20, 20)))
    assert torch.get_float32_matmul_precision() == "highest"


def test_without_edges_the_same_slots_win(halves):
    slots, values = refined_slots(halves, Image.new("RGB", (96, 64), "grey"))
    assert torch.equal(slots, winning_slots(halves[None], 64, 96)[0][0])
    assert values.max() < 0.9  # smoother
    equal = torch.full((3, 16), 1 / 3)
    assert not refined_slots(equal, Image.new("RGB", (33, 20)))[0].any()  # ties: the earlier slot


def test_windows_are_shares_of_the_photograph():
    """A photograph that is twice as large has the same masks, twice as large."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    masks = torch.rand(3, 36, generator=torch.Generator().manual_seed(0)).softmax(dim=0)
    small, large = (
        refined_slots(masks, coarse.resize(size, Image.Resampling.BICUBIC))[0]
        for size in ((240, 180), (480, 360))
    )
    assert (small.repeat_interleave(2, 0).repeat_interleave(2, 1) == large).float().mean() > 0.98
