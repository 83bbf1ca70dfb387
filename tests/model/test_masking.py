import pytest
import torch

from mmqsa.model.masking import visible_patches

FEATURES = torch.arange(10.0)[torch.tensor([3, 0, 9, 1, 8, 2, 7, 4, 6, 5])][None, :, None].expand(
    2, 10, 4
)


def uniform(images, patches):
    return torch.rand(images, patches, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "strategy, expected", [("background", {0.0, 1.0, 2.0}), ("foreground", {7.0, 8.0, 9.0})]
)
def test_ranked_strategies_hide_one_end_of_the_means(strategy, expected):
    visible = visible_patches(FEATURES.mean(dim=-1), strategy, 0.7)
    for image, index in zip(FEATURES, visible, strict=True):
        assert set(image[index, 0].tolist()) == expected


@pytest.mark.parametrize("strategy", ["none", "random", "background", "foreground"])
@pytest.mark.parametrize("ratio, hidden", [(0.0, 0), (0.7, 7), (0.94, 9), (0.96, 10)])
def test_as_many_stay_in_every_image(strategy, ratio, hidden):
    score = uniform(2, 10) if strategy == "random" else FEATURES.mean(dim=-1)
    visible = visible_patches(score, strategy, ratio)
    count = 10 if strategy == "none" else 10 - hidden
    assert visible.shape == (2, count)
    assert all(len(set(index.tolist())) == count for index in visible)


def test_the_papers_ratios_hide_round_numbers():
    """The released code hides 321 and 361."""
    score = uniform(1, 400)
    counts = [400 - visible_patches(score, "background", r).shape[1] for r in (0.7, 0.8, 0.9)]
    assert counts == [280, 320, 360]


def test_random_differs_between_images_and_repeats_with_the_seed():
    first = visible_patches(uniform(8, 100), "random", 0.7)
    assert torch.equal(first, visible_patches(uniform(8, 100), "random", 0.7))
    assert not torch.equal(first[0].sort().values, first[1].sort().values)
