import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from mmqsa.features import principal_component as module
from mmqsa.features.principal_component import background_direction, border
from mmqsa.model.masking import visible_patches

GRID, DIM = 10, 24


def made(sign: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Images with an object off their border, whose features lie ``sign`` along one direction.

    Returns features (60, 100, 24) float16 and which patches are object.
    """
    generator = torch.Generator().manual_seed(0)
    inside = torch.zeros(60, GRID, GRID, dtype=torch.bool)
    for image in inside:
        top, left = torch.randint(1, 5, (2,), generator=generator).tolist()
        image[top : top + 4, left : left + 4] = True
    inside = inside.flatten(1)
    direction = torch.randn(DIM, generator=generator)
    direction += 0.5  # so that the mean of the features tells them apart as well
    noise = torch.randn(60, GRID**2, DIM, generator=generator)
    features = noise + sign * 1.5 * inside[..., None] * direction
    return features.half(), inside


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_background_is_hidden_whatever_the_sign(sign):
    features, inside = made(sign)
    score = features.float() @ background_direction(features)
    visible = visible_patches(score, "background", 0.84)  # 16 stay, as many as are object
    assert inside.gather(1, visible).float().mean() > 0.95
    by_mean = visible_patches(features.float().mean(dim=-1), "background", 0.84)
    shown = inside.gather(1, by_mean).float().mean()
    assert shown > 0.8 if sign < 0 else shown < 0.05  # the paper's score needs the right sign


def test_it_is_the_first_principal_component(monkeypatch):
    features, _ = made(1.0)
    found = background_direction(features)
    flat = features.float().flatten(0, 1).numpy()
    scaled = StandardScaler().fit_transform(flat)
    expected = PCA(1, svd_solver="full").fit_transform(scaled)[:, 0]
    score = flat @ found.numpy()
    assert abs(np.corrcoef(score, expected)[0, 1]) == pytest.approx(1, abs=1e-6)
    assert score.std() == pytest.approx(expected.std(), rel=1e-4)
    monkeypatch.setattr(module, "BLOCK", 7)
    torch.testing.assert_close(background_direction(features.numpy()), found)
    monkeypatch.setattr(module, "IMAGES", 30)  # every second image
    every_second = background_direction(features)
    torch.testing.assert_close(every_second, background_direction(features[::2]))


def test_border():
    assert border(3).tolist() == [True] * 4 + [False] + [True] * 4
    assert np.flatnonzero(~border(4).numpy()).tolist() == [5, 6, 9, 10]
