import numpy as np
import pytest
import torch

from mmqsa.features.standardise import feature_statistics


@pytest.mark.parametrize("per", ["none", "feature", "position"])
def test_statistics_against_numpy(per):
    features = (torch.randn(500, 9, 5) * 3 + torch.arange(9)[:, None]).half()
    mean, std = feature_statistics(features, per)
    plain = features.double().numpy()
    if per == "none":
        expected = np.zeros((9, 5)), np.ones((1, 5))
    elif per == "feature":
        flat = plain.reshape(-1, 5)
        expected = np.broadcast_to(flat.mean(0), (9, 5)), flat.std(0, keepdims=True)
    else:
        centred = plain - plain.mean(0)
        expected = plain.mean(0), np.sqrt((centred**2).mean((0, 1)))[None]
    np.testing.assert_allclose(mean, expected[0], atol=1e-4)
    np.testing.assert_allclose(std, expected[1], rtol=1e-4)
